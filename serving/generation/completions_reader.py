"""Reader of one choice of a raw completion: tokens to text."""

from __future__ import annotations

from dataclasses import replace

from serving.engine.base import TokenDelta
from serving.generation.logprobs import LogprobQueue, logprob_entry
from serving.generation.stop import StopMatcher
from serving.generation.types import ChatEvent, ChoiceFinished, TextDelta
from serving.harmony.tokenization import FIRST_SPECIAL_ID, RawDecoder


class CompletionReader:
    """Reader of one choice: turns token deltas into events, at most one TextDelta for each.

    With stop strings or log probabilities tokens are read one by one, so that nothing depends on how the engine cut its
    deltas. `over` is set by the engine's finish reason or a stop string; `completion_tokens` counts every token up to
    then, special ones included.
    """

    __slots__ = (
        *("_decoder", "_index", "_logprobs", "_skip_special", "_stop", "_stop_token_ids"),
        *("completion_tokens", "over"),
    )

    def __init__(
        self, index: int, *, stop: tuple[str, ...], stop_token_ids: frozenset[int], skip_special: bool, logprobs: bool
    ) -> None:
        self.completion_tokens = 0
        self.over = False
        self._index = index
        self._skip_special = skip_special
        self._decoder = RawDecoder(skip_special=skip_special)
        self._stop_token_ids = stop_token_ids
        self._stop = StopMatcher(stop) if stop else None
        self._logprobs = LogprobQueue() if logprobs else None

    def read(self, delta: TokenDelta) -> list[ChatEvent]:
        """Return the events of the next delta, in order; a token that stops the completion has no text."""
        if delta.finish_reason == "stop" and delta.token_ids and delta.token_ids[-1] in self._stop_token_ids:
            self.completion_tokens += 1
            logprobs = None if delta.logprobs is None else delta.logprobs[:-1]
            delta = replace(delta, token_ids=delta.token_ids[:-1], logprobs=logprobs)
        if self._stop is None and self._logprobs is None:
            self.completion_tokens += len(delta.token_ids)
            text = self._decoder.feed(delta.token_ids)
        else:
            text = self._one_by_one(delta)
        stopped = self._stop is not None and self._stop.matched
        if delta.finish_reason is not None and not stopped:
            text += self._rest()
            stopped = self._stop is not None and self._stop.matched
        events: list[ChatEvent] = []
        if text:
            entries = None
            if self._logprobs is not None:
                self._logprobs.sent += len(text)
                entries = self._logprobs.take_due()
            events.append(TextDelta(self._index, "final", text, logprobs=entries))
        reason = "stop" if stopped else delta.finish_reason
        if reason is not None:
            self.over = True
            events.append(ChoiceFinished(self._index, reason))
        return events

    def _one_by_one(self, delta: TokenDelta) -> str:
        queue, text = self._logprobs, ""
        if queue is not None and len(delta.logprobs or ()) != len(delta.token_ids):
            raise ValueError("an engine delta's log probabilities do not match its tokens")
        for position, token_id in enumerate(delta.token_ids):
            start = 0 if queue is None else queue.read
            self.completion_tokens += 1
            text += self._pushed(self._decoder.feed((token_id,)))
            if queue is not None and delta.logprobs and (token_id < FIRST_SPECIAL_ID or not self._skip_special):
                queue.add(start, logprob_entry(delta.logprobs[position]))
            if self._stop is not None and self._stop.matched:
                break
        return text

    def _rest(self) -> str:
        """What was held back: half a character, or the beginning of a stop string."""
        text = self._pushed(self._decoder.finish())
        if self._stop is not None and not self._stop.matched:
            text += self._stop.flush()
        return text

    def _pushed(self, text: str) -> str:
        if self._logprobs is not None:
            self._logprobs.read += len(text)
        return text if self._stop is None else self._stop.push(text)
