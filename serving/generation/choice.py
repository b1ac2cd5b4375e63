"""One choice: its tokens through the Harmony parser into chat events."""

from __future__ import annotations

from collections.abc import Callable

from serving.engine.base import TokenDelta
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
from serving.harmony.events import (
    Channel,
    ChannelOpened,
    Event,
    Finished,
    MessageClosed,
    Recovered,
    Text,
    ToolArguments,
    ToolCallOpened,
)
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import FIRST_SPECIAL_ID

OnRecovered = Callable[[str], None]
"""Told the kind of each break of the Harmony format that was recovered from."""


class ChoiceReader:
    """Turns one choice's token deltas into events; at most one TextDelta for each delta and message.

    Nothing is put between messages on one channel: their texts join byte for byte, and `opens` marks where the next
    one begins. A stop string is looked for within each final message, never across two of them.

    With stop strings or log probabilities tokens are fed one by one: then it is known which token ended the choice,
    and nothing about the answer, usage included, depends on how the engine cut its deltas.

    `over` is set by the engine's finish reason or a stop string. `completion_tokens` counts every token up to then,
    special ones included.
    """

    __slots__ = (
        "_channel",
        "_logprobs",
        "_mint_call_id",
        "_on_recovered",
        "_opens",
        "_parser",
        "_show_reasoning",
        "_stop",
        "_text",
        "completion_tokens",
        "index",
        "over",
    )

    def __init__(
        self, index: int, request: ChatGeneration, mint_call_id: MintId, on_recovered: OnRecovered | None
    ) -> None:
        self.index = index
        self.over = False
        self.completion_tokens = 0
        self._parser = HarmonyParser()
        self._stop = StopMatcher(request.stop) if request.stop else None
        self._logprobs = LogprobQueue() if request.sampling.logprobs is not None else None
        self._show_reasoning = request.include_reasoning
        self._mint_call_id = mint_call_id
        self._on_recovered = on_recovered
        self._channel: Channel = "final"
        self._opens = False
        self._text = ""  # of this delta and message, not yet emitted

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of analysis, shown or not."""
        return self._parser.analysis_tokens

    def read(self, delta: TokenDelta) -> list[ChatEvent]:
        """Events of the next delta, in order; none once over, though the engine may go on for other choices."""
        events: list[ChatEvent] = []
        if self.over:
            return events
        if self._stop is None and self._logprobs is None:
            self.completion_tokens += len(delta.token_ids)
            self._take(self._parser.feed(delta.token_ids), events)
        else:
            self._read_token_by_token(delta, events)
        if self._stop is not None and self._stop.matched:
            self._emit(events)
            self._finish("stop", events)
        elif delta.finish_reason is not None:
            self._take(self._parser.finish(delta.finish_reason), events)
        else:
            self._emit(events)
        return events

    def _read_token_by_token(self, delta: TokenDelta, events: list[ChatEvent]) -> None:
        parser, queue = self._parser, self._logprobs
        if queue is not None and len(delta.logprobs or ()) != len(delta.token_ids):
            raise ValueError("an engine delta's log probabilities do not match its tokens")
        for position, token_id in enumerate(delta.token_ids):
            channel = parser.open_channel
            start = 0 if queue is None else queue.read
            self.completion_tokens += 1
            self._take(parser.feed((token_id,)), events)
            if delta.logprobs and queue is not None and token_id < FIRST_SPECIAL_ID and self._has_logprobs(channel):
                queue.add(start, logprob_entry(delta.logprobs[position]))
            if self._stop is not None and self._stop.matched:
                return

    def _take(self, parsed: list[Event], events: list[ChatEvent]) -> None:
        for event in parsed:
            if isinstance(event, Text):
                self._take_text(event)
                if self._stop is not None and self._stop.matched:
                    return
            elif isinstance(event, ToolArguments):
                self._take_arguments(event, events)
            elif isinstance(event, ChannelOpened):
                self._channel, self._opens = event.channel, True
            elif isinstance(event, MessageClosed):
                self._end_message(events)
            elif isinstance(event, ToolCallOpened):
                events.append(ToolCallDelta(self.index, event.index, self._mint_call_id(), event.name))
            elif isinstance(event, Recovered):
                if self._on_recovered is not None:
                    self._on_recovered(event.kind)
            elif isinstance(event, Finished):
                self._end_message(events)
                self._finish(event.reason, events)

    def _take_text(self, event: Text) -> None:
        text = event.text
        if event.channel == "analysis" and not self._show_reasoning:
            return
        if self._logprobs is not None:
            self._logprobs.read += len(text)
        if self._stop is not None and event.channel == "final":
            text = self._stop.push(text)
        self._text += text

    def _take_arguments(self, event: ToolArguments, events: list[ChatEvent]) -> None:
        text = event.text
        if events:
            last = events[-1]
            if isinstance(last, ToolArgumentsDelta) and last.index == event.index:
                text = last.text + text
                events.pop()
        events.append(ToolArgumentsDelta(self.index, event.index, text))

    def _end_message(self, events: list[ChatEvent]) -> None:
        if self._stop is not None:
            self._text += self._stop.flush()
        self._emit(events)

    def _emit(self, events: list[ChatEvent]) -> None:
        """The delta or the message is over: one TextDelta for what came of it, if anything did."""
        if not self._text:
            return
        entries = None
        if self._logprobs is not None:
            self._logprobs.sent += len(self._text)
            if self._has_logprobs(self._channel):
                entries = self._logprobs.take_due()
        events.append(TextDelta(self.index, self._channel, self._text, self._opens, entries))
        self._opens = False
        self._text = ""

    def _finish(self, reason: str, events: list[ChatEvent]) -> None:
        self.over = True
        events.append(ChoiceFinished(self.index, reason))

    def _has_logprobs(self, channel: Channel | None) -> bool:
        return channel == "final" or (channel == "analysis" and self._show_reasoning)
