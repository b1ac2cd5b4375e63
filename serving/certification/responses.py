"""Responses, as OpenAI's client reads them."""

from __future__ import annotations

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.certification.conversation import Ask, Call, CheckFailedError, Json, Said, Usage, require
from serving.certification.endpoint import Stream

_EVENT: TypeAdapter[Json] = TypeAdapter(ResponseStreamEvent)
_ENDS = ("response.completed", "response.incomplete")
_TEXTS = {
    "response.output_text": "text",
    "response.reasoning_text": "text",
    "response.function_call_arguments": "arguments",
}


class ResponsesApi:
    """See Api."""

    name = "responses"
    path = "/responses"
    least_tokens = 16

    def body(self, model: str, ask: Ask, *, stream: bool) -> dict[str, Json]:
        """See Api."""
        body: dict[str, Json] = {
            "model": model,
            "input": _input(ask),
            "temperature": 0,
            "max_output_tokens": ask.max_tokens,
            "store": False,
        }
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": True,
                }
                for tool in ask.tools
            ]
        if ask.forced is not None:
            body["tool_choice"] = {"type": "function", "name": ask.forced}
        if ask.schema is not None:
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": False}}
        if stream:
            body["stream"] = True
        return body

    def read(self, body: Json) -> Said:
        """See Api."""
        content, reasoning, aside, calls = "", "", "", list[Call]()
        for item in body["output"]:
            if item["type"] == "function_call":
                calls.append(Call(item["call_id"], item["name"], item["arguments"]))
            elif item["type"] == "reasoning":
                reasoning += "".join(part["text"] for part in item.get("content") or ())
            elif item["type"] == "message":
                text = "".join(part.get("text", "") for part in item["content"])
                if item.get("phase") == "commentary":
                    aside += text
                else:
                    content += text
        return Said(content, reasoning, aside, tuple(calls), _finish(body, bool(calls)), _usage(body.get("usage")))

    def read_stream(self, stream: Stream) -> Said:
        """See Api."""
        items: dict[int, Json] = {}
        texts: dict[int, str] = {}
        for event in stream.events:
            kind = event["type"]
            if kind in ("error", "response.failed"):
                raise CheckFailedError(f"the stream ends in an error: {event}")
            if kind == "response.output_item.added":
                items[event["output_index"]] = event["item"]
            elif kind.removesuffix(".delta") in _TEXTS and kind.endswith(".delta"):
                index = event["output_index"]
                texts[index] = texts.get(index, "") + event["delta"]
        content, reasoning, aside, calls = "", "", "", list[Call]()
        for index in sorted(items):
            item, text = items[index], texts.get(index, "")
            if item["type"] == "function_call":
                calls.append(Call(item["call_id"], item["name"], text))
            elif item["type"] == "reasoning":
                reasoning += text
            elif item.get("phase") == "commentary":
                aside += text
            else:
                content += text
        last = stream.events[-1]["response"]
        return Said(content, reasoning, aside, tuple(calls), _finish(last, bool(calls)), _usage(last.get("usage")))

    def validate(self, body: Json) -> None:
        """See Api."""
        reply = Response.model_validate(body)
        require(reply.status in ("completed", "incomplete"), f"the status of a whole reply is {reply.status!r}")
        require(reply.usage is not None, "a whole reply has no usage")

    def validate_stream(self, stream: Stream) -> None:
        """See Api."""
        for event in stream.events:
            _EVENT.validate_python(event)
        kinds = [event["type"] for event in stream.events]
        require(kinds[:1] == ["response.created"], f"the first event is {kinds[:1]}")
        require(kinds[-1] in _ENDS and not set(kinds[:-1]) & set(_ENDS), f"the last event is {kinds[-1]!r}")
        numbers = [event["sequence_number"] for event in stream.events]
        require(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "sequence numbers leave some out")
        _validate_items(stream)


def _validate_items(stream: Stream) -> None:
    """Check that each item is opened before its deltas, and that done events and the final reply say what they do."""
    opened: set[int] = set()
    closed: dict[int, Json] = {}
    texts: dict[tuple[int, int], str] = {}
    for event in stream.events:
        stem, _, step = event["type"].rpartition(".")
        if stem == "response.output_item":
            index = event["output_index"]
            require((index in opened) == (step == "done"), f"the item {index} is {step} out of order")
            opened.add(index)
            if step == "done":
                closed[index] = event["item"]
        elif stem in _TEXTS:
            index, part = event["output_index"], event.get("content_index", 0)
            require(index in opened and index not in closed, f"{event['type']} of an item that is not open")
            if step == "delta":
                texts[index, part] = texts.get((index, part), "") + event["delta"]
            else:
                whole = event[_TEXTS[stem]]
                require(whole == texts.get((index, part), ""), f"{event['type']} has not the deltas' text")
    output = stream.events[-1]["response"]["output"]
    require(
        sorted(closed) == list(range(len(output))), f"{len(closed)} items were streamed, {len(output)} are in the end"
    )
    require(
        [closed[index] for index in sorted(closed)] == output, "the final reply's items are not those of the stream"
    )


def _input(ask: Ask) -> list[Json]:
    items: list[Json] = [{"role": "user", "content": ask.question}]
    if ask.thought:
        content = [{"type": "reasoning_text", "text": ask.thought}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": content})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call, _ in ask.results
    ]
    items += [{"type": "function_call_output", "call_id": call.id, "output": result} for call, result in ask.results]
    return items


def _finish(reply: Json, called: bool) -> str:
    if reply["status"] == "incomplete":
        return "length"
    return "tool_calls" if called else "stop"


def _usage(usage: Json) -> Usage | None:
    if not usage:
        return None
    details = usage.get("output_tokens_details") or {}
    return Usage(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"], details.get("reasoning_tokens"))
