"""One choice: its tokens through the Harmony parser into chat events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from serving.engine.base import FinishReason, TokenDelta
from serving.generation.ids import MintId
from serving.generation.logprobs import LogprobQueue, logprob_entry
from serving.generation.steering import Detour, Leg, Steering
from serving.generation.stop import StopMatcher
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
)
from serving.harmony.channels import Channel, TokenCounts
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
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import CALL, CHANNEL, END, FIRST_SPECIAL_ID, RETURN

OnRecovered = Callable[[str], None]
"""Told the kind of each break of the Harmony format that was recovered from."""


class ChoiceReader:
    """Turns one choice's token deltas into events; at most one TextDelta for each delta and message.

    Nothing is put between messages on one channel: their texts join byte for byte, and `opens` marks where the next
    one begins. A stop string is looked for within each final message, never across two of them.

    With stop strings or log probabilities, and wherever the steering may have to take a hand, tokens are fed one by
    one: then it is known which token ended the choice or the leg, and nothing about the answer, usage included,
    depends on how the engine cut its deltas.

    `tokens` is the completion so far, special and forced tokens included. `leg_over` asks for the next engine request,
    which goes on after `tokens` as `leg` says; `over` says that there is nothing more to come.
    """

    __slots__ = (
        "_called",
        "_channel",
        "_logprobs",
        "_looks_up",
        "_make_parser",
        "_mint_call_id",
        "_on_recovered",
        "_one_call",
        "_opened_final",
        "_opens",
        "_parser",
        "_refused_call",
        "_show_reasoning",
        "_steering",
        "_stop",
        "_text",
        "_visible",
        "index",
        "leg_over",
        "over",
        "tokens",
    )

    def __init__(
        self,
        index: int,
        request: ChatGeneration,
        mint_call_id: MintId,
        on_recovered: OnRecovered | None,
        max_tokens: int | None = None,
    ) -> None:
        """`max_tokens`: the completion's, where it is settled; request.sampling's otherwise."""
        self.index = index
        self.over = False
        self.leg_over = False
        self.tokens: list[int] = []
        names = [tool.name for tool in request.conversation.tools]
        self._make_parser = functools.partial(HarmonyParser, names)
        self._parser = self._make_parser()
        self._steering = Steering(request, request.sampling.max_tokens if max_tokens is None else max_tokens)
        self._stop = StopMatcher(request.stop) if request.stop else None
        self._logprobs = LogprobQueue() if request.sampling.logprobs is not None else None
        self._show_reasoning = request.include_reasoning
        self._one_call = not request.parallel_tool_calls
        self._mint_call_id = mint_call_id
        self._on_recovered = on_recovered
        self._channel: Channel = "final"
        self._opens = False
        self._text = ""  # of this delta and message, not yet emitted
        self._looks_up = False
        self._refused_call = False
        self._called = False
        self._visible = False
        self._opened_final = False

    @property
    def leg(self) -> Leg:
        """How the completion goes on after `tokens`."""
        return self._steering.leg

    @property
    def tokens_left(self) -> int:
        """Tokens that may still come."""
        return self._steering.max_tokens - len(self.tokens)

    @property
    def room(self) -> int | None:
        """Tokens after which the engine should look up: a budget may end there. None: let it run."""
        return self._steering.room(self._parser, self.tokens)

    @property
    def must_watch(self) -> bool:
        """True where tokens must be looked at as they come: an engine that sends all at once would run too far."""
        return self._stop is not None or self._one_call or self._steering.watches

    @property
    def reasoning_truncated(self) -> bool:
        """True once a budget has cut the analysis."""
        return self._steering.reasoning_truncated

    @property
    def counts(self) -> TokenCounts:
        """Body tokens by channel, shown or not."""
        return TokenCounts(**self._parser.tokens)

    def read(self, delta: TokenDelta) -> list[ChatEvent]:
        """Events of the next delta, in order; none once over, or once the leg is."""
        events: list[ChatEvent] = []
        if self.is_done():
            return events
        token_ids = delta.token_ids
        room = self.room
        if (
            self._stop is None
            and self._logprobs is None
            and not self._one_call
            and not self._steering.watches
            and (room is None or len(token_ids) < room)
        ):
            if self.leg.kind == "call" and token_ids and token_ids[-1] == RETURN:
                token_ids = [*token_ids[:-1], CALL]  # the grammar's end, which for a call is spelled so
            self.tokens += token_ids
            self._take(self._parser.feed(token_ids), events)
        else:
            self._read_token_by_token(delta, events)
        if self.is_done():
            return events
        if self._stop is not None and self._stop.matched:
            self._emit(events)
            self._finish("stop", events)
        elif delta.finish_reason is not None:
            self._end_leg(delta.finish_reason, events)
        else:
            self._emit(events)
        return events

    def is_done(self) -> bool:
        """True when nothing more is read from this leg."""
        return self.over or self.leg_over

    def begin_leg(self, limit: int) -> None:
        """The next engine request is made, for at most `limit` tokens: where that is not all, the engine looks up."""
        self.leg_over = False
        self._looks_up = limit < self.tokens_left

    def _read_token_by_token(self, delta: TokenDelta, events: list[ChatEvent]) -> None:
        parser, queue = self._parser, self._logprobs
        if queue is not None and len(delta.logprobs or ()) != len(delta.token_ids):
            raise ValueError("an engine delta's log probabilities do not match its tokens")
        for position, token_id in enumerate(delta.token_ids):
            if self.leg.kind == "call" and token_id == RETURN:
                token_id = CALL
            channel = parser.open_channel
            start = 0 if queue is None else queue.read
            self.tokens.append(token_id)
            if self._steering.watches or self.room == 1:
                if self._take_watched(token_id, events):
                    return
            else:
                self._take(parser.feed((token_id,)), events)
            if delta.logprobs and queue is not None and token_id < FIRST_SPECIAL_ID and self._has_logprobs(channel):
                queue.add(start, logprob_entry(delta.logprobs[position]))
            if self.over or (self._stop is not None and self._stop.matched):
                return

    def _take_watched(self, token_id: int, events: list[ChatEvent]) -> bool:
        """Feed the last token and let the steering look; true where the leg ends with it."""
        steering, parser = self._steering, self._parser
        if steering.leg.kind == "name":
            detour = steering.after(parser, self.tokens, ())
            if detour is None:
                self._take(parser.feed((token_id,)), events)
                return False
            del self.tokens[detour.keep :]
            self._go(detour, events)
            return True
        parsed = parser.feed((token_id,))
        detour = steering.after(parser, self.tokens, parsed)
        if detour is None:
            self._take(parsed, events)
            return False
        if detour.keep == len(self.tokens):
            self._take(parsed, events)
        else:
            # What had just opened is not to be; the messages before it were complete and have been taken.
            self._report([event for event in parsed if isinstance(event, Recovered)])
            self._rewind(detour.keep)
        self._go(detour, events)
        return True

    def _rewind(self, keep: int) -> None:
        del self.tokens[keep:]
        self._parser = self._make_parser()
        self._parser.feed(self.tokens)

    def _go(self, detour: Detour, events: list[ChatEvent]) -> None:
        """Write what the detour forces; the leg is over."""
        forced = list(detour.forced)
        if detour.opens:
            if not self._parser.in_header:
                forced = [END, *forced]
            elif not self.tokens:
                # The prompt has opened this message.
                forced = forced[forced.index(CHANNEL) :]
        self.tokens += forced
        self._take(self._parser.feed(forced), events)
        self._emit(events)
        self._steering.take(detour, self.tokens)
        self.leg_over = True

    def _end_leg(self, reason: FinishReason, events: list[ChatEvent]) -> None:
        """The engine has no more of this leg."""
        steering = self._steering
        if reason == "length" and self._looks_up:
            detour = steering.after(self._parser, self.tokens, ())
            if detour is not None:
                self._go(detour, events)
                return
            self._emit(events)
            self.leg_over = True
            return
        if reason == "stop":
            # The text of a call that nobody can take is kept, yet it is no answer.
            answered = self._opened_final or (self._visible and not self._refused_call)
            detour = steering.at_stop(self._parser, self.tokens, called=self._called, answered=answered)
            if detour is not None:
                self._end_message(events)
                if detour.keep < len(self.tokens):
                    self._rewind(detour.keep)
                self._report([Recovered("answer_missing")])
                self._go(detour, events)
                return
        self._take(self._parser.finish(reason), events)

    def _report(self, recovered: Iterable[Event]) -> None:
        for event in recovered:
            if isinstance(event, Recovered):
                self._refused_call = self._refused_call or event.kind == "tool_not_offered"
                if self._on_recovered is not None:
                    self._on_recovered(event.kind)

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
                self._opened_final = self._opened_final or event.channel == "final"
            elif isinstance(event, MessageClosed):
                self._end_message(events)
                if self._called and self._one_call:
                    self._finish("tool_calls", events)
                    return
            elif isinstance(event, ToolCallOpened):
                self._called = True
                events.append(ToolCallDelta(self.index, event.index, self._mint_call_id(), event.name))
            elif isinstance(event, Recovered):
                self._report((event,))
            elif isinstance(event, Finished):
                self._end_message(events)
                self._finish(event.reason, events)

    def _take_text(self, event: Text) -> None:
        text = event.text
        if event.channel != "analysis":
            self._visible = True
        elif not self._show_reasoning:
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
        stop = None if self._stop is None else self._stop.found
        events.append(ChoiceFinished(self.index, reason, self.reasoning_truncated, stop))

    def _has_logprobs(self, channel: Channel | None) -> bool:
        return channel == "final" or (channel == "analysis" and self._show_reasoning)
