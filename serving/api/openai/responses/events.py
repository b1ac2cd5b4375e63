"""Typed events of a streamed response, as bytes.

Deltas are put together as text around JSON-escaped strings; what comes once an item is dumped.
Source: OpenAI's reference of Responses streaming events; the order is what its client's stream helper needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Protocol

from serving.api.openai.responses.response import Logprob, OutputItem, ResponseObject, as_begun
from serving.api.streaming.sse import compact, frame, halves

_DELTAS = {
    "message": "response.output_text.delta",
    "reasoning": "response.reasoning_text.delta",
    "function_call": "response.function_call_arguments.delta",
    "custom_tool_call": "response.custom_tool_call_input.delta",
}

_SUMMARY = "response.reasoning_summary"


class OutputSink(Protocol):
    """Receiver of items: each is opened, gets its text in pieces, and is closed before the next is opened."""

    def open(self, index: int, item: OutputItem) -> None:
        """Item number `index` begins, empty."""
        ...

    def delta(self, text: str, logprobs: Sequence[Logprob]) -> None:
        """More text of the open item."""
        ...

    def close(self, item: OutputItem) -> None:
        """The open item is over; `item` has all of it."""
        ...


class Unwatched:
    """Receiver for answers that are sent whole: it does nothing."""

    def open(self, index: int, item: OutputItem) -> None:
        """See OutputSink."""

    def delta(self, text: str, logprobs: Sequence[Logprob]) -> None:
        """See OutputSink."""

    def close(self, item: OutputItem) -> None:
        """See OutputSink."""


class ResponseEvents:
    """Events of one response in order, numbered from 0; take() returns those made since its last call.

    Events up to number `starting_after` are counted and left out.
    """

    def __init__(self, *, starting_after: int = -1) -> None:
        self._number = 0
        self._starting_after = starting_after
        self._frames: list[str] = []
        self._delta_head = ""
        self._delta_tail = ""
        self._no_logprobs = ""
        self._summarizes = False
        self._summary: tuple[str, str] | None = None
        self._place: dict[str, Any] = {}

    def take(self) -> bytes:
        """Frames made since the last call; b"" for none."""
        frames, self._frames = "".join(self._frames), []
        return frames.encode("ascii")

    def begin(self, response: ResponseObject) -> None:
        """Add the first events; all before any work on the response."""
        begun = as_begun(response)
        self._summarizes = response["reasoning"]["summary"] is not None
        if not response["background"]:
            self._event("response.created", response=begun)
            return
        begun["status"] = "queued"
        self._event("response.created", response=begun)
        self._event("response.queued", response=begun)

    def work(self, response: ResponseObject) -> None:
        """Add the event before the first item."""
        self._event("response.in_progress", response=as_begun(response))

    def end(self, response: ResponseObject) -> None:
        """Add the error, if any, and the last event: completed, failed or incomplete, as for a cancelled response."""
        status, error = response["status"], response["error"]
        if error is not None:
            self._event("error", code=error["code"], message=error["message"], param=None)
        self._event(f"response.{'incomplete' if status == 'cancelled' else status}", response=response)

    def open(self, index: int, item: OutputItem) -> None:
        """See OutputSink."""
        self._event("response.output_item.added", output_index=index, item=item)
        self._place = {"item_id": item["id"], "output_index": index}
        kind = item["type"]
        if kind in ("message", "reasoning"):
            self._place["content_index"] = 0
            self._event("response.content_part.added", **self._place, part=_part(item, empty=True))
        self._summary = self._open_summary() if kind == "reasoning" and self._summarizes else None
        name = _DELTAS.get(kind, "")  # calls of other tools come as a whole
        place = compact(self._place)[1:-1]
        self._delta_head, self._delta_tail = halves(f'{{"type":"{name}",{place},"sequence_number":', "}", name)
        self._no_logprobs = ',"logprobs":[]' if kind == "message" else ""

    def delta(self, text: str, logprobs: Sequence[Logprob]) -> None:
        """See OutputSink."""
        shown = f',"logprobs":{json.dumps(logprobs)}' if logprobs else self._no_logprobs
        quoted = quote(text)
        self._add(f'{self._delta_head}{self._number},"delta":{quoted}{shown}{self._delta_tail}')
        if self._summary is not None:
            head, tail = self._summary
            self._add(f'{head}{self._number},"delta":{quoted}{tail}')

    def close(self, item: OutputItem) -> None:
        """See OutputSink."""
        if item["type"] == "function_call":
            arguments = item["arguments"]
            self._event("response.function_call_arguments.done", **self._place, name=item["name"], arguments=arguments)
        elif item["type"] == "custom_tool_call":
            self._event("response.custom_tool_call_input.done", **self._place, input=item["input"])
        elif item["type"] in ("message", "reasoning"):
            part = _part(item)
            if item["type"] == "message":
                logprobs = part["logprobs"]
                self._event("response.output_text.done", **self._place, text=part["text"], logprobs=logprobs)
            else:
                self._event("response.reasoning_text.done", **self._place, text=part["text"])
            self._event("response.content_part.done", **self._place, part=part)
            if self._summary is not None:
                self._close_summary(part["text"])
        self._event("response.output_item.done", output_index=self._place["output_index"], item=item)

    def _open_summary(self) -> tuple[str, str]:
        """Open the summary of a reasoning item, its one part; the two ends of its deltas' frames."""
        place = self._summary_place()
        self._event(f"{_SUMMARY}_part.added", **place, part={"type": "summary_text", "text": ""})
        kind = f"{_SUMMARY}_text.delta"
        return halves(f'{{"type":"{kind}",{compact(place)[1:-1]},"sequence_number":', "}", kind)

    def _close_summary(self, text: str) -> None:
        place = self._summary_place()
        self._event(f"{_SUMMARY}_text.done", **place, text=text)
        self._event(f"{_SUMMARY}_part.done", **place, part={"type": "summary_text", "text": text})

    def _summary_place(self) -> dict[str, Any]:
        return {"item_id": self._place["item_id"], "output_index": self._place["output_index"], "summary_index": 0}

    def _event(self, kind: str, /, **fields: Any) -> None:
        self._add(frame(compact({"type": kind, "sequence_number": self._number, **fields}), kind))

    def _add(self, frame: str) -> None:
        if self._number > self._starting_after:
            self._frames.append(frame)
        self._number += 1


def _part(item: OutputItem, *, empty: bool = False) -> Any:
    if item["type"] == "message":
        return {"type": "output_text", "text": "", "annotations": [], "logprobs": []} if empty else item["content"][0]
    if item["type"] == "reasoning":
        return {"type": "reasoning_text", "text": ""} if empty else item["content"][0]
    raise ValueError("a call has no parts")
