"""The stream of a stored response, event for event, while it grows or once it is over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from serving.api.openai.responses.archive import ResponseRecord
from serving.api.openai.responses.events import ResponseEvents
from serving.api.openai.responses.output import Cuts
from serving.api.openai.responses.response import Logprob, OutputItem
from serving.api.openai.responses.toolbox import close_call


class Follower:
    """Follower of one response: turns its record, as it grows, into the events numbered above `starting_after`.

    The bytes are those that were streamed at first; a response that was sent whole comes as it was made.
    """

    def __init__(self, starting_after: int = -1) -> None:
        self._sse = ResponseEvents(starting_after=starting_after)
        self._begun = self._working = self._opened = False
        self._items = 0
        self._place = (0, 0, 0)

    def advance(self, record: ResponseRecord) -> Iterator[bytes]:
        """Frames of what is new in `record`, some at a time; with the last event, if it is over."""
        sse, response = self._sse, record.response
        if not self._begun:
            self._begun = True
            sse.begin(response)
        if not self._working and response["status"] != "queued":
            self._working = True
            sse.work(response)
        yield sse.take()
        for item, cuts in itertools.islice(zip(response["output"], record.cuts, strict=True), self._items, None):
            yield from self._grow(item, cuts)
            if record.in_progress and item["status"] == "in_progress":
                return  # more of it comes
            sse.close(item)
            yield sse.take()
            self._items += 1
            self._opened, self._place = False, (0, 0, 0)
        if not record.in_progress:
            sse.end(response)
            yield sse.take()

    def _grow(self, item: OutputItem, cuts: Cuts) -> Iterator[bytes]:
        """More of one item: its deltas after those that were sent."""
        if not self._opened:
            self._opened = True
            self._sse.open(self._items, _emptied(item))
        text, logprobs = _content(item)
        number, begin, begin_logprobs = self._place
        for length, count in zip(cuts[0][number:], cuts[1][number:], strict=True):
            end, end_logprobs = begin + length, begin_logprobs + count
            self._sse.delta(text[begin:end], logprobs[begin_logprobs:end_logprobs])
            number, begin, begin_logprobs = number + 1, end, end_logprobs
            yield self._sse.take()
        self._place = number, begin, begin_logprobs
        yield self._sse.take()


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
