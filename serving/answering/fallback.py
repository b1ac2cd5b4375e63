"""A model of ours whose requests others answer while it cannot: its chain of fallbacks, for one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from serving.answering.backend import no_tokens
from serving.answering.watch import RequestWatch
from serving.engine.base import Owned
from serving.errors import (
    AnswerTimeoutError,
    ApiError,
    EngineDiedError,
    EngineNotReadyError,
    OverloadedError,
    RateLimitError,
)
from serving.generation.answerer import Answerer
from serving.generation.completions import CompletionGeneration
from serving.generation.types import ChatEvent, ChatGeneration
from serving.settings.backends import LOCAL_PROVIDER
from serving.telemetry.metrics import FallbackReason, Metrics

_LOOK_S = 0.5
_KEEP_S = 1.0
_ANSWER_WITHIN_S = 5.0


class Health:
    """Health of an engine by its check_health, asked at most once a second for all requests. `clock` is monotonic."""

    def __init__(self, engine: Owned, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked = float("-inf")
        self._error: ApiError | None = None

    async def check(self) -> None:
        """Raises EngineNotReadyError or EngineDiedError while it cannot answer."""
        async with self._lock:
            if self._clock() - self._asked >= _KEEP_S:
                self._error = await self._ask()
                self._asked = self._clock()
        if self._error is not None:
            raise self._error

    async def _ask(self) -> ApiError | None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await self._engine.check_health()
        except ApiError as error:
            return error
        except TimeoutError:
            return EngineNotReadyError(f"The engine did not answer within {_ANSWER_WITHIN_S:g} s.")
        return None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A fallback's answerer. `model` is a model of our own; None where the answerer itself notes who answers."""

    answerer: Answerer
    model: str | None


class FallbackAnswerer:
    """Asks `first`, the model's own answerer; while it cannot answer, and has no token yet, the `others` in turn.

    An engine that is being replaced would be waited for: with others to ask, its health is checked instead. `refusal`
    is the first's refusal before it was asked: it is full. `others` are made when they are needed, None for one that
    is not there. Where all fail the client is told the first one's error, and of the last only where that was the
    request's own mistake.
    """

    def __init__(
        self,
        model: str,
        first: Answerer,
        health: Health,
        others: Sequence[Callable[[], Alternative | None]],
        watch: RequestWatch,
        metrics: Metrics,
        refusal: ApiError | None = None,
    ) -> None:
        self._model = model
        self._first = first
        self._health = health
        self._others = others
        self._watch = watch
        self._metrics = metrics
        self._refusal = refusal

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer. Raises UnsupportedParameterError: a fallback may take conversations alone."""
        raise no_tokens()

    async def answer(self, request: ChatGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer."""
        first_error = self._refusal
        if first_error is None:
            async with aclosing(self._first.answer(request, streaming=streaming)) as events:
                try:
                    event = await self._first_event(events)
                except ApiError as error:
                    if reason_of(error) is None:
                        raise
                    first_error = error
                else:
                    self._watch.model = self._model
                    self._watch.served_by(LOCAL_PROVIDER)
                    yield event
                    async for event in events:
                        yield event
                    return
        async for event in self._from_others(request, streaming, first_error):
            yield event

    async def _from_others(
        self, request: ChatGeneration, streaming: bool, first_error: ApiError
    ) -> AsyncGenerator[ChatEvent]:
        error = first_error
        for make in self._others:
            other = make()
            if other is None:
                continue
            self._metrics.fell_back(self._model, reason_of(error) or "not_ready")
            async with aclosing(other.answerer.answer(request, streaming=streaming)) as events:
                try:
                    event = await anext(events)
                except ApiError as failure:
                    if reason_of(failure) is None:
                        raise
                    error = failure
                    continue
                if other.model is not None:
                    self._watch.model = other.model
                    self._watch.served_by(LOCAL_PROVIDER)
                yield event
                async for event in events:
                    yield event
                return
        raise first_error

    async def _first_event(self, events: AsyncGenerator[ChatEvent]) -> ChatEvent:
        """The first event; raises what the engine's health says, if that comes before it."""
        waiting = asyncio.ensure_future(anext(events))
        try:
            while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                await self._health.check()
            return waiting.result()
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})


def reason_of(error: ApiError) -> FallbackReason | None:
    """Reason to ask others; None where they should not be asked: the request's mistake, or a team's limit."""
    match error:
        case EngineNotReadyError():
            return "not_ready"
        case EngineDiedError():
            return "engine_gone"
        case OverloadedError():
            return "deadline" if error.code == "deadline_unattainable" else "full"
        case RateLimitError() if error.code == "queue_full":
            return "full"
        case AnswerTimeoutError() if error.code == "deadline_unattainable":
            return "deadline"
        case _:
            return None
