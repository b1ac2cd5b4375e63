"""Anthropic's Messages, as its client reads them."""

from __future__ import annotations

import json

from serving.certification.conversation import Ask, Call, CheckFailedError, Json, Said, Usage, require
from serving.certification.endpoint import Stream

_FINISHES = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class MessagesApi:
    """See Api."""

    name = "messages"
    path = "/messages"
    least_tokens = 1

    def body(self, model: str, ask: Ask, *, stream: bool) -> dict[str, Json]:
        """See Api."""
        body: dict[str, Json] = {
            "model": model,
            "messages": _messages(ask),
            "temperature": 0,
            "max_tokens": ask.max_tokens,
            "thinking": {"type": "adaptive"},
        }
        if ask.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": tool.parameters,
                    "strict": True,
                }
                for tool in ask.tools
            ]
        if ask.forced is not None:
            body["tool_choice"] = {"type": "tool", "name": ask.forced}
        if ask.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
        if stream:
            body["stream"] = True
        return body

    def read(self, body: Json) -> Said:
        """See Api. Text before a call is an aside: the API has no field for it."""
        return _said(body["content"], body["stop_reason"], body["usage"])

    def read_stream(self, stream: Stream) -> Said:
        """See Api."""
        blocks: dict[int, Json] = {}
        texts: dict[int, str] = {}
        stop, usage = "", {}
        for event in stream.events:
            kind = event["type"]
            if kind == "error":
                raise CheckFailedError(f"the stream ends in an error: {event['error']}")
            if kind == "message_start":
                usage = dict(event["message"]["usage"])
            elif kind == "content_block_start":
                blocks[event["index"]] = event["content_block"]
            elif kind == "content_block_delta" and event["delta"]["type"] in _DELTAS:
                delta = event["delta"]
                texts[event["index"]] = texts.get(event["index"], "") + delta[_DELTAS[delta["type"]]]
            elif kind == "message_delta":
                stop = event["delta"]["stop_reason"]
                usage |= event["usage"]
        content = []
        for index in sorted(blocks):
            block, text = dict(blocks[index]), texts.get(index, "")
            if block["type"] == "tool_use":
                block["input"] = json.loads(text or "{}")
            else:
                block[block["type"]] = text
            content.append(block)
        return _said(content, stop, usage)

    def validate(self, body: Json) -> None:
        """See Api."""
        found = (body["type"], body["role"])
        require(found == ("message", "assistant"), f"type and role are {found}")
        require(body["stop_reason"] in _FINISHES, f"the stop reason is {body['stop_reason']!r}")
        require("stop_sequence" in body and isinstance(body["id"], str), "the id or the stop sequence is missing")
        for block in body["content"]:
            _validate_block(block)
        _validate_usage(body["usage"])

    def validate_stream(self, stream: Stream) -> None:
        """See Api."""
        kinds = [event["type"] for event in stream.events if event["type"] != "ping"]
        require(kinds[:1] == ["message_start"], f"the first event is {kinds[:1]}")
        require(kinds[-2:] == ["message_delta", "message_stop"], f"the last events are {kinds[-2:]}")
        require(not stream.done, "the stream ends in [DONE], which is OpenAI's")
        _validate_usage(stream.events[0]["message"]["usage"])
        opened: int | None = None
        blocks = 0
        for event in stream.events:
            if not event["type"].startswith("content_block_"):
                continue
            step = event["type"].removeprefix("content_block_")
            if step == "start":
                require(opened is None and event["index"] == blocks, f"block {event['index']} starts out of order")
                opened, blocks = blocks, blocks + 1
                _validate_block(event["content_block"])
            else:
                require(event["index"] == opened, f"content_block_{step} of block {event['index']}, which is not open")
                opened = None if step == "stop" else opened
        require(opened is None, "a block is never stopped")


def _said(content: list[Json], stop: str, usage: Json) -> Said:
    calls = tuple(
        Call(block["id"], block["name"], json.dumps(block["input"])) for block in content if block["type"] == "tool_use"
    )
    text = "".join(block["text"] for block in content if block["type"] == "text")
    thoughts = "".join(block["thinking"] for block in content if block["type"] == "thinking")
    details = usage.get("output_tokens_details") or {}
    return Said(
        content="" if calls else text,
        reasoning=thoughts,
        aside=text if calls else "",
        calls=calls,
        finish=_FINISHES.get(stop, stop),
        usage=Usage(usage["input_tokens"], usage["output_tokens"], None, details.get("thinking_tokens")),
    )


def _validate_block(block: Json) -> None:
    fields = {"text": ("text",), "thinking": ("thinking", "signature"), "tool_use": ("id", "name", "input")}
    require(block["type"] in (*fields, "redacted_thinking"), f"a block's type is {block['type']!r}")
    missing = [field for field in fields.get(block["type"], ()) if field not in block]
    require(not missing, f"a block of type {block['type']!r} has no {', '.join(missing)}")


def _validate_usage(usage: Json) -> None:
    for field in ("input_tokens", "output_tokens"):
        require(isinstance(usage[field], int), f"usage.{field} is {usage[field]!r}")


def _messages(ask: Ask) -> list[Json]:
    messages: list[Json] = [{"role": "user", "content": ask.question}]
    if ask.results:
        content: list[Json] = []
        if ask.thought:
            content.append({"type": "thinking", "thinking": ask.thought, "signature": "unsigned"})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")}
            for call, _ in ask.results
        ]
        messages.append({"role": "assistant", "content": content})
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": result} for call, result in ask.results]
        messages.append({"role": "user", "content": results})
    return messages
