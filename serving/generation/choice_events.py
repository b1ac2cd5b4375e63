"""Chat events of one choice, made of the parser's events, with stop strings and log probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.engine.base import TokenLogprobs
from serving.generation.ids import MintId
from serving.generation.logprobs import LogprobQueue, logprob_entry
from serving.generation.stop import StopMatcher
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
)
from serving.harmony.channels import Channel
from serving.harmony.events import (
    ChannelOpened,
    Event,
    Finished,
    MessageClosed,
    Recovered,
    Text,
    ToolArguments,
    ToolCallOpened,
)

OnRecovered = Callable[[str], None]
"""Callback for the kind of each break of the Harmony format that was recovered from."""


class ChoiceEvents:
    """Maker of one choice's chat events from the parser's; at most one TextDelta for each delta and message.

    Nothing is put between messages on one channel: their texts join byte for byte, and `opens` marks where the next
    one begins. A stop string is looked for within each final message, never across two of them.

    `over` says that the choice has finished, `stopped` that a stop string was found, `called` that a call was begun.
    """

    __slots__ = (
        "_call",
        "_channel",
        "_index",
        "_mint_call_id",
        "_on_recovered",
        "_opens",
        "_said",
        "_show_reasoning",
        "_text",
        "called",
        "logprobs",
        "one_call",
        "over",
        "reasoning_truncated",
        "recovered",
        "stop",
    )

    def __init__(
        self, index: int, request: ChatGeneration, mint_call_id: MintId, on_recovered: OnRecovered | None
    ) -> None:
        self.over = False
        self.called = False
        self.reasoning_truncated = False
        self.one_call = not request.parallel_tool_calls
        self.stop = StopMatcher(request.stop) if request.stop else None
        self.logprobs = LogprobQueue() if request.sampling.logprobs is not None else None
        self._index = index
        self._show_reasoning = request.include_reasoning
        self._mint_call_id = mint_call_id
        self._on_recovered = on_recovered
        self._channel: Channel = "final"
        self._opens = False
        self._text = ""  # of this delta and message, not yet emitted
        self._said = False  # on the final channel
        self.recovered: dict[str, int] = {}
        self._call: int | None = None  # the open call, while it has no arguments

    @property
    def stopped(self) -> bool:
        """True once a stop string was found."""
        return self.stop is not None and self.stop.matched

    @property
    def answered(self) -> bool:
        """True once the client has an answer: text on the final channel."""
        return self._said

    def report(self, parsed: Iterable[Event]) -> None:
        """Tell of the recoveries among `parsed`, and take nothing else of them."""
        for event in parsed:
            if isinstance(event, Recovered):
                self.recovered[event.kind] = self.recovered.get(event.kind, 0) + 1
                if self._on_recovered is not None:
                    self._on_recovered(event.kind)

    def take(self, parsed: Iterable[Event], events: list[ChatEvent]) -> None:
        """Take the parser's next events; what is complete with them goes to `events`."""
        for event in parsed:
            if isinstance(event, Text):
                self._take_text(event)
                if self.stop is not None and self.stop.matched:
                    return
            elif isinstance(event, ToolArguments):
                self._take_arguments(event, events)
            elif isinstance(event, ChannelOpened):
                self._channel, self._opens = event.channel, True
            elif isinstance(event, MessageClosed):
                if self._call is not None:
                    self._take_arguments(ToolArguments(self._call, "{}"), events)  # clients decode them as JSON
                self.end_message(events)
                if self.called and self.one_call:
                    self.finish("tool_calls", events)
                    return
            elif isinstance(event, ToolCallOpened):
                self.called = True
                self._call = event.index
                events.append(ToolCallDelta(self._index, event.index, self._mint_call_id(), event.name))
            elif isinstance(event, Recovered):
                self.report((event,))
            elif isinstance(event, Finished):
                self.end_message(events)
                self.finish(event.reason, events)

    def add_logprobs(self, channel: Channel | None, start: int, position: TokenLogprobs) -> None:
        """Queue the log probabilities of a token that was read on `channel` when the text was `start` long."""
        if self.logprobs is not None and self._has_logprobs(channel):
            self.logprobs.add(start, logprob_entry(position))

    def end_message(self, events: list[ChatEvent]) -> None:
        """Emit the rest of the open message, what was held back for a stop string included."""
        if self.stop is not None:
            self._text += self.stop.flush()
        self.emit(events)

    def emit(self, events: list[ChatEvent]) -> None:
        """Emit one TextDelta for the text of this delta and message, if there is any."""
        if not self._text:
            return
        entries = None
        if self.logprobs is not None:
            self.logprobs.sent += len(self._text)
            if self._has_logprobs(self._channel):
                entries = self.logprobs.take_due()
        events.append(TextDelta(self._index, self._channel, self._text, self._opens, entries))
        self._opens = False
        self._text = ""

    def finish(self, reason: str, events: list[ChatEvent]) -> None:
        """Finish the choice."""
        self.over = True
        stop = None if self.stop is None else self.stop.found
        events.append(ChoiceFinished(self._index, reason, self.reasoning_truncated, stop))

    def _take_text(self, event: Text) -> None:
        text = event.text
        if event.channel == "final":
            self._said = True
        elif event.channel == "analysis" and not self._show_reasoning:
            return
        if self.logprobs is not None:
            self.logprobs.read += len(text)
        if self.stop is not None and event.channel == "final":
            text = self.stop.push(text)
        self._text += text

    def _take_arguments(self, event: ToolArguments, events: list[ChatEvent]) -> None:
        text = event.text
        if not text.isspace():
            self._call = None
        if events:
            last = events[-1]
            if isinstance(last, ToolArgumentsDelta) and last.index == event.index:
                text = last.text + text
                events.pop()
        events.append(ToolArgumentsDelta(self._index, event.index, text))

    def _has_logprobs(self, channel: Channel | None) -> bool:
        return channel == "final" or (channel == "analysis" and self._show_reasoning)
