"""Chat completions, as OpenAI's client reads them."""

from __future__ import annotations

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.certification.conversation import Ask, Call, CheckFailedError, Json, Said, Usage, require
from serving.certification.endpoint import Stream


class ChatApi:
    """See Api."""

    name = "chat"
    path = "/chat/completions"
    least_tokens = 1

    def body(self, model: str, ask: Ask, *, stream: bool) -> dict[str, Json]:
        """See Api."""
        body: dict[str, Json] = {
            "model": model,
            "messages": _messages(ask),
            "temperature": 0,
            "seed": 1,
            "max_tokens": ask.max_tokens,
        }
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                        "strict": True,
                    },
                }
                for tool in ask.tools
            ]
        if ask.forced is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": ask.forced}}
        if ask.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ask.schema}}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def read(self, body: Json) -> Said:
        """See Api."""
        choice = body["choices"][0]
        message = choice["message"]
        calls = tuple(
            Call(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        )
        return Said(
            content=message.get("content") or "",
            reasoning=message.get("reasoning") or message.get("reasoning_content") or "",
            aside=message.get("commentary") or "",
            calls=calls,
            finish=choice["finish_reason"],
            usage=_usage(body.get("usage")),
        )

    def read_stream(self, stream: Stream) -> Said:
        """See Api."""
        texts = {"content": "", "reasoning": "", "commentary": ""}
        calls: dict[int, list[str]] = {}
        finish, usage = "", None
        for chunk in stream.events:
            if "error" in chunk:
                raise CheckFailedError(f"the stream ends in an error: {chunk['error']}")
            usage = _usage(chunk.get("usage")) or usage
            for choice in chunk["choices"]:
                delta = choice["delta"]
                for field in texts:
                    texts[field] += delta.get(field) or ""
                if not delta.get("reasoning"):
                    texts["reasoning"] += delta.get("reasoning_content") or ""
                for part in delta.get("tool_calls") or ():
                    call = calls.setdefault(part["index"], ["", "", ""])
                    function = part.get("function") or {}
                    call[0] += part.get("id") or ""
                    call[1] += function.get("name") or ""
                    call[2] += function.get("arguments") or ""
                finish = choice.get("finish_reason") or finish
        said = tuple(Call(*calls[index]) for index in sorted(calls))
        return Said(texts["content"], texts["reasoning"], texts["commentary"], said, finish, usage)

    def validate(self, body: Json) -> None:
        """See Api."""
        reply = ChatCompletion.model_validate(body, strict=True)
        require(reply.usage is not None, "a whole reply has no usage")
        require(reply.choices[0].index == 0, f"the only choice has the index {reply.choices[0].index}")

    def validate_stream(self, stream: Stream) -> None:
        """See Api."""
        require(stream.done, "the last event is not data: [DONE]")
        chunks = [ChatCompletionChunk.model_validate(each, strict=True) for each in stream.events]
        require(len({chunk.id for chunk in chunks}) == 1, "chunks of one answer have several ids")
        *said, last = chunks
        require(not last.choices and last.usage is not None, "include_usage was asked for; the last chunk has no usage")
        require(all(chunk.usage is None for chunk in said), "a chunk before the last has usage")
        first = said[0].choices[0].delta.role if said and said[0].choices else None
        require(first == "assistant", f"the first chunk's role is {first!r}")
        finished = [choice.finish_reason for chunk in said for choice in chunk.choices if choice.finish_reason]
        require(len(finished) == 1, f"the stream has {len(finished)} finish reasons")


def _messages(ask: Ask) -> list[Json]:
    messages: list[Json] = [{"role": "user", "content": ask.question}]
    if ask.results:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call, _ in ask.results
        ]
        message: dict[str, Json] = {"role": "assistant", "content": None, "tool_calls": calls}
        if ask.thought:
            message["reasoning"] = ask.thought
        messages.append(message)
    messages += [{"role": "tool", "tool_call_id": call.id, "content": result} for call, result in ask.results]
    return messages


def _usage(usage: Json) -> Usage | None:
    if not usage:
        return None
    details = usage.get("completion_tokens_details") or {}
    return Usage(
        usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"], details.get("reasoning_tokens")
    )
