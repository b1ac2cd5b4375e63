"""Routing of a request among one model's endpoints, with retries until the first token."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.backends.backend import Backend
from serving.backends.chunks import Chunk
from serving.backends.dialects import unsupported
from serving.backends.reader import AnswerReader
from serving.errors import (
    AnswerTimeoutError,
    ApiError,
    BackendUnavailableError,
    EngineDiedError,
    EngineNotReadyError,
    ModelNotFoundError,
    OverloadedError,
    UnsupportedParameterError,
)
from serving.generation.ids import MintId
from serving.generation.types import ChatEvent, ChatGeneration, GenerationStarted
from serving.settings.backends import RetrySettings

Outcome = Literal["ok", "full", "failed", "refused", "abandoned"]
"""How one try ended: `full` and `failed` are tried elsewhere, `refused` is the request's own mistake."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Backend, and the model's name there."""

    backend: Backend
    model: str


class Watcher(Protocol):
    """Observer of the attempts of one request."""

    def sent(self, backend: Backend) -> None:
        """Note that the conversation is sent to `backend`."""
        ...

    def ended(self, backend: Backend, outcome: Outcome) -> None:
        """Note the outcome of the attempt."""
        ...

    def serves(self, backend: Backend) -> None:
        """Note that `backend` answers: its first token has arrived."""
        ...


class Router:
    """Router to the least busy backend that works; tries the next one where that fails before its first token.

    `uniform` gives numbers from 0 to 1, for pauses that differ.
    """

    def __init__(self, retry: RetrySettings, uniform: Callable[[], float] = random.random) -> None:
        self._retry = retry
        self._uniform = uniform
        self._turns = 0

    async def answer(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        request: ChatGeneration,
        mint_call_id: MintId,
        prompt: Sequence[int],
        watcher: Watcher,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Events of the answer. `name` is the model's, for errors; `prompt` the conversation's gpt-oss tokens.

        Raises UnsupportedParameterError where no endpoint understands the request, what a endpoint refused it with, and
        once attempts have run out the last endpoint's error; EngineDiedError after the first token.
        """
        able = _able(name, endpoints, request)
        asked: list[Endpoint] = []
        error: ApiError | None = None
        for attempt in range(self._retry.attempts):
            endpoint = await self._next(name, able, asked, attempt, error)
            asked.append(endpoint)
            tried = _Try(endpoint.backend, self._retry, watcher)
            reader = AnswerReader(request, mint_call_id, len(prompt))
            async with aclosing(tried.events(request, endpoint.model, reader)) as events:
                try:
                    first = await anext(events)
                except ApiError as failure:
                    if not is_passing(failure):
                        raise
                    error = failure
                    continue
                yield GenerationStarted(prompt)
                for event in first:
                    yield event
                async for portion in events:
                    for event in portion:
                        yield event
                return
        assert error is not None, "there is one attempt at least"
        raise error

    async def _next(
        self, name: str, able: Sequence[Endpoint], asked: Sequence[Endpoint], attempt: int, error: ApiError | None
    ) -> Endpoint:
        """Endpoint to try now: an untried one at once, else one after a pause. Raises where none can be tried soon."""
        fresh = [endpoint for endpoint in able if endpoint not in asked and endpoint.backend.ready]
        if fresh:
            return self._least_busy(fresh)
        # Who is believed not to answer is asked all the same before anyone a second time.
        doubtful = [t for t in able if t not in asked and t.backend.breaker.allows and t.backend.waits_s <= 0]
        if doubtful:
            return self._least_busy(doubtful)
        open_to_us = [endpoint for endpoint in able if endpoint.backend.breaker.allows]
        if isinstance(error, ModelNotFoundError) or not open_to_us:
            raise error or _all_closed(name, able)
        retry = self._retry
        pause = self._uniform() * min(retry.longest_pause_s, retry.backoff_s * 2 ** max(0, attempt - 1))
        soonest = min(endpoint.backend.waits_s for endpoint in open_to_us)
        if soonest > retry.longest_pause_s:
            raise OverloadedError(f"Every backend of '{name}' is full.", code="backend_full", retry_after_s=soonest)
        await asyncio.sleep(max(pause, soonest))
        willing = [t for t in open_to_us if t.backend.breaker.allows and t.backend.waits_s <= 0]
        if not willing:
            raise error or _all_closed(name, able)
        return self._least_busy(willing)

    def _least_busy(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        best = min(endpoints, key=lambda endpoint: (endpoint.backend.load, endpoint.backend.turn))
        self._turns += 1
        best.backend.turn = self._turns
        return best


class _Try:
    """One attempt of a request at one backend."""

    def __init__(self, backend: Backend, retry: RetrySettings, watcher: Watcher) -> None:
        self._backend = backend
        self._retry = retry
        self._watcher = watcher

    async def events(
        self, request: ChatGeneration, model: str, reader: AnswerReader
    ) -> AsyncGenerator[list[ChatEvent], None]:
        """Chunks of events; the first comes with the first token, whose events may be hidden."""
        backend = self._backend
        backend.breaker.begin_attempt()
        self._watcher.sent(backend)
        outcome: Outcome = "abandoned"
        begun = False
        try:
            async with aclosing(backend.answer(request, model)) as chunks:
                pending: list[ChatEvent] = []
                limit = asyncio.get_running_loop().time() + self._retry.first_token_s
                while True:
                    if (chunk := await self._next(chunks, limit if not begun else None)) is None:
                        break
                    pending += reader.read(chunk)
                    if not begun and not reader.begun:
                        continue
                    if not begun:
                        begun = True
                        self._watcher.serves(backend)
                        backend.breaker.record_success()
                    if pending:
                        yield pending
                        pending = []
                outcome = "ok"
                pending += reader.finish()
                if not begun:
                    self._watcher.serves(backend)
                backend.breaker.record_success()
                yield pending
        except ApiError as error:
            outcome = self._judge(error)
            if begun and is_passing(error):
                raise EngineDiedError(f"The backend '{backend.name}' was lost in the middle of its answer.") from error
            raise
        finally:
            if outcome == "abandoned":
                backend.breaker.cancel_attempt()
            self._watcher.ended(backend, outcome)

    async def _next(self, chunks: AsyncGenerator[Chunk, None], first_by: float | None) -> Chunk | None:
        """The next chunk, None after the last; raises BackendUnavailableError where it does not come in time."""
        by = first_by or asyncio.get_running_loop().time() + self._retry.between_tokens_s
        try:
            async with asyncio.timeout_at(by):
                return await anext(chunks, None)
        except TimeoutError as error:
            what = "has sent nothing for too long" if first_by is None else "took too long to begin its answer"
            raise BackendUnavailableError(
                f"The backend '{self._backend.name}' {what}.", code="backend_timeout"
            ) from error

    def _judge(self, error: ApiError) -> Outcome:
        backend = self._backend
        if isinstance(error, OverloadedError):
            backend.full(error.retry_after_s)
            backend.breaker.cancel_attempt()
            return "full"
        if isinstance(error, EngineNotReadyError | EngineDiedError | AnswerTimeoutError):
            backend.breaker.record_failure()
            return "failed"
        backend.breaker.record_success()  # a refusal is an answer
        return "refused"


def is_passing(error: ApiError) -> bool:
    """Whether a retry, at another backend or later, may succeed."""
    return isinstance(error, EngineNotReadyError | EngineDiedError | OverloadedError | ModelNotFoundError)


def _able(name: str, endpoints: Sequence[Endpoint], request: ChatGeneration) -> list[Endpoint]:
    lacking = [unsupported(endpoint.backend.dialect, request) for endpoint in endpoints]
    able = [endpoint for endpoint, field in zip(endpoints, lacking, strict=True) if field is None]
    if not able:
        field = next(field for field in lacking if field is not None)
        raise UnsupportedParameterError(
            f"Unsupported parameter: '{field}'. The server that has '{name}' does not know it.", param=field
        )
    return able


def _all_closed(name: str, endpoints: Sequence[Endpoint]) -> BackendUnavailableError:
    wait = min(endpoint.backend.breaker.retry_in_s for endpoint in endpoints)
    return BackendUnavailableError(
        f"Every backend of '{name}' has failed lately. Try again in {max(wait, 1):.0f} s.", retry_after_s=max(wait, 1)
    )
