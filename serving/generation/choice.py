"""Reader of one choice: its tokens through the Harmony parser into chat events, segment by segment."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

from serving.engine.base import FinishReason, TokenDelta
from serving.generation.choice_events import ChoiceEvents, OnRecovered
from serving.generation.ids import MintId
from serving.generation.interventions import Intervention, Interventions
from serving.generation.segment import Segment
from serving.generation.types import ChatEvent, ChatGeneration
from serving.harmony.channels import TokenCounts
from serving.harmony.events import Recovered
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import (
    BODY_ENDS,
    CALL,
    CHANNEL,
    END,
    FIRST_SPECIAL_ID,
    RETURN,
    STOP_TOKEN_IDS,
    decode,
)

__all__ = ["ChoiceReader", "OnRecovered"]


class ChoiceReader:
    """Reader of one choice: turns token deltas into events (see ChoiceEvents), with interventions between segments.

    With stop strings or log probabilities, and as long as an intervention may be due, the parser gets tokens one by
    one: the reader then knows which token ended the choice or the segment, and nothing about the answer, usage
    included, depends on how the engine cut its deltas.

    `tokens` is the completion so far, special and forced tokens included. `segment_over` asks for the next engine
    request, which goes on after `tokens` as `segment` says; `over` says that there is nothing more to come.
    """

    __slots__ = (
        "_checks_budget",
        "_events",
        "_interventions",
        "_make_parser",
        "_parser",
        "_plain",
        "_stop_token_ids",
        "index",
        "segment_over",
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
        self.segment_over = False
        self.tokens: list[int] = []
        names = [tool.name for tool in request.conversation.tools]
        self._make_parser = functools.partial(HarmonyParser, names, one_turn=True)
        self._parser = self._make_parser()
        self._interventions = Interventions(request, request.sampling.max_tokens if max_tokens is None else max_tokens)
        self._events = ChoiceEvents(index, request, mint_call_id, on_recovered)
        self._checks_budget = False
        self._plain = False  # nothing of this segment has to be looked at token by token
        self._stop_token_ids = frozenset(request.sampling.stop_token_ids) - frozenset(STOP_TOKEN_IDS)

    @property
    def over(self) -> bool:
        """True once the choice has finished."""
        return self._events.over

    @property
    def segment(self) -> Segment:
        """The segment that goes on after `tokens`."""
        return self._interventions.segment

    @property
    def tokens_left(self) -> int:
        """Tokens that may still come."""
        return self._interventions.max_tokens - len(self.tokens)

    @property
    def tokens_to_check(self) -> int | None:
        """Tokens after which the reasoning budget must be checked; None: the engine may go on to the end."""
        return self._interventions.tokens_to_check(self._parser, self.tokens)

    @property
    def must_watch(self) -> bool:
        """True where tokens must be checked as they come: an engine that sends all at once would run too far."""
        return self._events.stop is not None or self._events.one_call or self._interventions.watches

    @property
    def reasoning_truncated(self) -> bool:
        """True once a budget has cut the analysis."""
        return self._interventions.reasoning_truncated

    @property
    def recovered(self) -> Mapping[str, int]:
        """Recoveries so far, by kind."""
        return self._events.recovered

    @property
    def counts(self) -> TokenCounts:
        """Body tokens by channel, shown or not."""
        return self._parser.tokens

    @property
    def finished_body(self) -> str | None:
        """Text of the segment, where the segment is a body that its end marker ended."""
        tokens = self.tokens
        return decode(tokens[self.segment.begins : -1]) if tokens and tokens[-1] in BODY_ENDS else None

    def read(self, delta: TokenDelta) -> list[ChatEvent]:
        """Return the events of the next delta, in order; none once the choice or its segment is over."""
        events: list[ChatEvent] = []
        out = self._events
        done = out.over or self.segment_over
        if done:
            return events
        token_ids = delta.token_ids
        if delta.finish_reason == "stop" and token_ids and token_ids[-1] in self._stop_token_ids:
            return self._read_stopped(delta)
        if self._plain:
            self.tokens += token_ids
            out.take(self._parser.feed(token_ids), events)
        elif (
            out.stop is None
            and out.logprobs is None
            and not out.one_call
            and not self._interventions.watches
            and ((left := self.tokens_to_check) is None or len(token_ids) < left)
        ):
            if self.segment.kind == "call" and token_ids and token_ids[-1] == RETURN:
                token_ids = [*token_ids[:-1], CALL]  # the grammar's end, which for a call is spelled so
            self.tokens += token_ids
            out.take(self._parser.feed(token_ids), events)
        else:
            self._read_token_by_token(delta, events)
        if out.over or self.segment_over:
            return events
        if self._parser.turn_over:
            # What does not belong to the turn is not of the completion either; the engine is told to stop.
            del self.tokens[len(self.tokens) - self._parser.surplus :]
            self._parser.surplus = 0
            self._end_segment("stop", events)
            return events
        if out.stop is not None and out.stop.matched:
            out.emit(events)
            out.finish("stop", events)
        elif delta.finish_reason is not None:
            self._end_segment(delta.finish_reason, events)
        else:
            out.emit(events)
        return events

    def _read_stopped(self, delta: TokenDelta) -> list[ChatEvent]:
        """Read a delta that one of the request's own stop tokens ends; that token has no text."""
        logprobs = None if delta.logprobs is None else delta.logprobs[:-1]
        rest = replace(delta, token_ids=delta.token_ids[:-1], logprobs=logprobs, finish_reason=None)
        events = self.read(rest)
        if not self.is_done():
            self.tokens.append(delta.token_ids[-1])
            self._events.take(self._parser.finish("stop"), events)
        return events

    def is_done(self) -> bool:
        """True when nothing more is read from this segment."""
        return self._events.over or self.segment_over

    def begin_segment(self, limit: int) -> None:
        """Begin the next engine request, for at most `limit` tokens: if more are left, the budget is checked then."""
        self.segment_over = False
        self._checks_budget = limit < self.tokens_left
        out, interventions = self._events, self._interventions
        watched = out.stop is not None or out.logprobs is not None or out.one_call
        self._plain = not watched and interventions.is_idle

    def _read_token_by_token(self, delta: TokenDelta, events: list[ChatEvent]) -> None:
        parser, out, queue = self._parser, self._events, self._events.logprobs
        if queue is not None and len(delta.logprobs or ()) != len(delta.token_ids):
            raise ValueError("an engine delta's log probabilities do not match its tokens")
        for position, token_id in enumerate(delta.token_ids):
            if self.segment.kind == "call" and token_id == RETURN:
                token_id = CALL
            channel = parser.open_channel
            start = 0 if queue is None else queue.read
            self.tokens.append(token_id)
            if self._interventions.watches or self.tokens_to_check == 1:
                if self._take_watched(token_id, events):
                    return
            else:
                out.take(parser.feed((token_id,)), events)
            if delta.logprobs and token_id < FIRST_SPECIAL_ID:
                out.add_logprobs(channel, start, delta.logprobs[position])
            if out.over or out.stopped or parser.turn_over:
                return

    def _take_watched(self, token_id: int, events: list[ChatEvent]) -> bool:
        """Feed the last token and intervene if that is due; true where the segment ends with it."""
        interventions, parser = self._interventions, self._parser
        if interventions.segment.kind == "name":
            due = interventions.after(parser, self.tokens, ())
            if due is None:
                self._events.take(parser.feed((token_id,)), events)
                return False
            del self.tokens[due.keep :]
            self._intervene(due, events)
            return True
        parsed = parser.feed((token_id,))
        due = interventions.after(parser, self.tokens, parsed)
        if due is None:
            self._events.take(parsed, events)
            return False
        if due.keep == len(self.tokens):
            self._events.take(parsed, events)
        else:
            # What had just opened is not to be; the messages before it were complete and have been taken.
            self._events.report(parsed)
            self._rewind(due.keep)
        self._intervene(due, events)
        return True

    def _rewind(self, keep: int) -> None:
        del self.tokens[keep:]
        self._parser = self._make_parser()
        self._parser.feed(self.tokens)

    def _intervene(self, intervention: Intervention, events: list[ChatEvent]) -> None:
        """Write what the intervention forces; the segment is over."""
        self._events.reasoning_truncated = self._interventions.reasoning_truncated
        forced = list(intervention.forced)
        if intervention.opens:
            if not self._parser.in_header:
                forced = [END, *forced]
            elif not self.tokens:
                # The prompt has opened this message.
                forced = forced[forced.index(CHANNEL) :]
        self.tokens += forced
        self._events.take(self._parser.feed(forced), events)
        self._events.emit(events)
        self._interventions.made(intervention, self.tokens)
        self.segment_over = True

    def _end_segment(self, reason: FinishReason, events: list[ChatEvent]) -> None:
        """End the segment, of which the engine has no more."""
        interventions, out = self._interventions, self._events
        if reason == "length" and self._checks_budget:
            due = interventions.after(self._parser, self.tokens, ())
            if due is not None:
                self._intervene(due, events)
                return
            out.emit(events)
            self.segment_over = True
            return
        if reason == "stop":
            answered = out.answered or self._parser.holds_text
            due = interventions.at_stop(self._parser, self.tokens, called=out.called, answered=answered)
            if due is not None:
                out.end_message(events)
                if due.keep < len(self.tokens) or self._parser.turn_over:
                    self._rewind(due.keep)
                out.report([Recovered("answer_missing")])
                self._intervene(due, events)
                return
        out.take(self._parser.finish(reason), events)
