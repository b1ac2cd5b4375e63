"""Replay of a stored response's stream, event for event."""

from __future__ import annotations

from collections.abc import Iterator

from serving.api.openai.responses.archive import ResponseRecord
from serving.api.openai.responses.events import ResponseEvents
from serving.api.openai.responses.output import Cuts
from serving.api.openai.responses.response import Logprob, OutputItem
from serving.api.openai.responses.toolbox import close_call


def replay(record: ResponseRecord, *, starting_after: int = -1) -> Iterator[bytes]:
    """Frames of the events numbered above `starting_after`, some at a time.

    The bytes are those that were streamed at first; a response that was sent whole comes as it was made.
    """
    sse = ResponseEvents(starting_after=starting_after)
    sse.begin(record.response)
    yield sse.take()
    for index, (item, cuts) in enumerate(zip(record.response["output"], record.cuts, strict=True)):
        yield from _item(sse, index, item, cuts)
    sse.end(record.response)
    yield sse.take()


def _item(sse: ResponseEvents, index: int, item: OutputItem, cuts: Cuts) -> Iterator[bytes]:
    sse.open(index, _emptied(item))
    text, logprobs = _content(item)
    begin = begin_logprobs = 0
    for length, number in zip(*cuts, strict=True):
        end, end_logprobs = begin + length, begin_logprobs + number
        sse.delta(text[begin:end], logprobs[begin_logprobs:end_logprobs])
        begin, begin_logprobs = end, end_logprobs
        yield sse.take()
    sse.close(item)
    yield sse.take()


def _emptied(item: OutputItem) -> OutputItem:
    if item["type"] == "message":
        return {**item, "status": "in_progress", "content": []}
    if item["type"] == "reasoning":
        return {**item, "status": "in_progress", "content": [], "summary": [], "encrypted_content": None}
    empty = item.copy()
    empty["status"] = "in_progress"
    close_call(empty, "")
    return empty


def _content(item: OutputItem) -> tuple[str, list[Logprob]]:
    if item["type"] == "function_call":
        return item["arguments"], []
    if item["type"] == "custom_tool_call":
        return item["input"], []
    if item["type"] == "reasoning":
        return item["content"][0]["text"], []
    if item["type"] != "message":
        return "", []
    part = item["content"][0]
    return part["text"], part["logprobs"]
