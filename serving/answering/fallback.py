"""A model of ours whose requests others answer while it cannot: its chain of fallbacks, for one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from serving.answering.backend import RequestWatch
from serving.engine.base import Engine, Owned
from serving.errors import (
    AnswerTimeoutError,
    ApiError,
    EngineDiedError,
    EngineNotReadyError,
    OverloadedError,
    RateLimitError,
)
from serving.generation import chat
from serving.generation.choice import OnRecovered
from serving.generation.ids import MintId
from serving.generation.source import AnswerSource
from serving.generation.types import ChatEvent, ChatGeneration
from serving.settings.backends import LOCAL_PROVIDER
from serving.telemetry.metrics import FallbackReason, Metrics

_LOOK_S = 0.5
_KEEP_S = 1.0
_ANSWER_WITHIN_S = 5.0


class Health:
    """What an engine's check_health said, asked at most once a second for all requests. `clock` is monotonic."""

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


class FallbackAnswers(AnswerSource):
    """Asks `first`, the model's own engine; while it cannot answer, and has no token yet, the `others` in turn.

    An engine that is being replaced would be waited for: with others to ask it is looked at instead. `refusal` is what
    the first said before it was asked: it is full. `others` are made when they are needed, None for one that there is
    not. Where all fail the client is told the first one's error, and of the last only where that was its own mistake.
    """

    def __init__(
        self,
        model: str,
        first: Engine,
        health: Health,
        others: Sequence[Callable[[], tuple[str, Engine] | None]],
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
        self._check: Callable[[Engine], Awaitable[None]] | None = None

    def check_first(self, check: Callable[[Engine], Awaitable[None]]) -> None:
        """See AnswerSource."""
        self._check = check

    async def answer(
        self,
        request: ChatGeneration,
        mint_call_id: MintId,
        on_recovered: OnRecovered | None,
        *,
        streaming: bool,
    ) -> AsyncGenerator[ChatEvent, None]:
        """See AnswerSource."""

        def ask(engine: Engine) -> AsyncGenerator[ChatEvent, None]:
            way = chat.stream if streaming else chat.at_once
            return way(engine, request, mint_call_id=mint_call_id, on_recovered=on_recovered)

        first_error = self._refusal
        if first_error is None:
            async with aclosing(ask(self._first)) as events:
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
        async for event in self._from_others(ask, first_error):
            yield event

    async def _from_others(
        self, ask: Callable[[Engine], AsyncGenerator[ChatEvent, None]], first_error: ApiError
    ) -> AsyncGenerator[ChatEvent, None]:
        error = first_error
        for make in self._others:
            made = make()
            if made is None:
                continue
            self._metrics.fell_back(self._model, reason_of(error) or "not_ready")
            name, engine = made
            async with aclosing(ask(engine)) as events:
                try:
                    event = await anext(events)
                except ApiError as failure:
                    if reason_of(failure) is None:
                        raise
                    error = failure
                    continue
                if not isinstance(engine, AnswerSource):
                    self._watch.model = name
                    self._watch.served_by(LOCAL_PROVIDER)
                yield event
                async for event in events:
                    yield event
                return
        raise first_error

    async def _first_event(self, events: AsyncGenerator[ChatEvent, None]) -> ChatEvent:
        """The first event; raises what the engine's health says, if that comes before it."""
        waiting = asyncio.ensure_future(self._checked_first(events))
        try:
            while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                await self._health.check()
            return waiting.result()
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})

    async def _checked_first(self, events: AsyncGenerator[ChatEvent, None]) -> ChatEvent:
        if self._check is not None:
            await self._check(self._first)
        return await anext(events)


def reason_of(error: ApiError) -> FallbackReason | None:
    """Why others should be asked; None where they should not: the request's mistake, or a team's limit."""
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
