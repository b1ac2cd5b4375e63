"""Admission permits: a request's reservation of its team's limits, and its slots at the engines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from serving.engine.base import EngineRequest
from serving.errors import AnswerTimeoutError, ApiError, DeadlineExceededError, OverloadedError, RateLimitError
from serving.settings.teams import PRIORITIES
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.fair_queue import Waiting
from serving.tenancy.rate_limits.limiter import Limiter, Reservation

_T = TypeVar("_T")

# How long slots are kept for a request whose engine work has ended: it may only be between two segments of its answer.
_BETWEEN_SEGMENTS_S = 0.02


class Listener(Protocol):
    """An observer of a request on its way in; telemetry's recorder is one."""

    def queueing(self) -> AbstractContextManager[None]:
        """A context around the wait in the admission queue."""
        ...


class AdmissionPermit:
    """Admission permit of one request: reserves its team's limits and engine slots, and settles them by what was used.

    Its life:

        new -- acquire() --> holding slots -- release(), once for each acquire() --> idle -- close() --> settled
        new -- charge_request() --> charged (the answer costs no engine anything) -- close() --> settled

    The first acquire() reserves the team's limits and waits in the admission queue, for all sequences of the request
    together; further ones wait for it, and for a slot among those that it got. The reservation is settled, and the last
    slot released, once the request is closed and every acquire() has its release().

    A detached permit belongs to the making of an answer that other requests may wait for: it outlives its request, and
    its deadline holds for the way in alone, until attach(). `clock` and `deadline` are monotonic, in seconds.
    """

    def __init__(
        self,
        identity: Identity,
        limiter: Limiter,
        admission: AdmissionQueue,
        clock: Callable[[], float],
        deadline: float | None,
    ) -> None:
        self.identity = identity
        self.deadline = deadline
        self.effort = ""
        self.sequences = 1
        self.prompt_tokens: int | None = None
        self.listener: Listener | None = None
        self.on_refused: Callable[[ApiError], None] | None = None
        self.spent_prompt = self.spent_output = self.spent_cached = 0
        self._limiter = limiter
        self._admission = admission
        self._clock = clock
        self._lock = asyncio.Lock()
        self._reservation: Reservation | None = None
        self._refusal: ApiError | None = None
        self._expected = 0.0
        self._held = self._running = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._releasing: asyncio.TimerHandle | None = None
        self._closed = self._settled = self._detached = self._free = False
        self._began: float | None = None
        self._prompts: dict[int, list[int]] = {}

    @property
    def rank(self) -> int:
        """The team's priority class: 0 goes before 1."""
        return PRIORITIES.index(self.identity.policy.priority)

    def waiting(self, tokens: float = 1.0) -> Waiting:
        """The request as the admission queue knows it."""
        policy = self.identity.policy
        return Waiting(self.identity.team, policy.weight, self.rank, tokens, self.sequences)

    def headers(self) -> list[tuple[str, str]]:
        """Headers x-ratelimit-*, as OpenAI sends them; none for teams without these limits."""
        requests, tokens = self._limiter.windows(self.identity)
        headers: list[tuple[str, str]] = []
        for name, window in (("requests", requests), ("tokens", tokens)):
            if window is not None:
                headers.append((f"x-ratelimit-limit-{name}", str(window.limit)))
                headers.append((f"x-ratelimit-remaining-{name}", str(window.left)))
                headers.append((f"x-ratelimit-reset-{name}", f"{window.full_in_s:.3f}s"))
        return headers

    async def acquire(self, request: EngineRequest) -> None:
        """Wait for a slot. Raises RateLimitError, OverloadedError, AnswerTimeoutError or DeadlineExceededError."""
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        if not self._held:
            async with self._lock:
                if self._refusal is not None:
                    raise self._refusal
                if not self._held:
                    await self._enter(request)
        while self._running >= self._held:
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake()  # it was this one's turn; it is another's now
                raise
            finally:
                self._waiters.remove(turn)
        self._running += 1
        self._began = self._began or self._clock()

    async def charge_request(self) -> None:
        """Reserve the request itself, and no tokens. Raises RateLimitError."""
        if self._reservation is None:
            try:
                self._reservation = await self._limiter.acquire(self.identity, 0)
            except RateLimitError as error:
                self._refuse(error)
                raise
            self._free = True

    def detach(self) -> None:
        """Hand the permit to the making of an answer that other requests may wait for, until attach()."""
        self._detached = True

    def attach(self) -> None:
        """End the making of that answer: the permit belongs to its request again."""
        self._detached = False
        if self._closed and not self._running:
            self._release_idle()

    @property
    def stops_at(self) -> float | None:
        """The time at which engine work for the permit has to stop; None: no deadline."""
        return None if self._detached else self.deadline

    async def before_deadline(self, answer: Awaitable[_T]) -> _T:
        """Await `answer`. Raises DeadlineExceededError at the deadline."""
        if self.deadline is None:
            return await answer
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._clock())):
                return await answer
        except TimeoutError as error:
            raise DeadlineExceededError("The request's time ran out while it waited for the model.") from error

    async def in_time(self, deltas: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        """The items of `deltas`. Raises DeadlineExceededError at the deadline; the caller closes `deltas`."""
        assert self.deadline is not None
        while True:
            try:
                async with asyncio.timeout(max(0.0, self.deadline - self._clock())):
                    delta = await anext(deltas, None)
            except TimeoutError as error:
                raise DeadlineExceededError("The request's time ran out before its answer was complete.") from error
            if delta is None:
                return
            yield delta

    def count_tokens(self, request: EngineRequest, tokens: int, cached: int) -> None:
        """Count `tokens` that the engine made for `request`. A prompt counts once, however many choices it has."""
        prompt = request.prompt_token_ids
        if id(prompt) not in self._prompts:
            self._prompts[id(prompt)] = prompt
            self.spent_prompt += len(prompt)
            self.spent_cached += cached
        self.spent_output += tokens

    def release(self) -> None:
        """End one engine request that acquire() let begin."""
        self._running -= 1
        self._wake()

    def _wake(self) -> None:
        for turn in self._waiters:
            if not turn.done():
                turn.set_result(None)
                return
        if self._closed and not self._detached:
            self._release_idle()
        elif self._releasing is None:
            # Not at once: the next segment may begin in the same turn of the loop.
            self._releasing = asyncio.get_running_loop().call_later(_BETWEEN_SEGMENTS_S, self._release_idle)

    def close(self) -> None:
        """End the request, answered or not. May be called more than once."""
        self._closed = True
        if not self._running and not self._detached:
            self._release_idle()

    async def _enter(self, request: EngineRequest) -> None:
        expected = self._expected_tokens(request)
        if self._free and self._reservation is not None:
            # It was to cost nothing, and does after all.
            self._reservation.undo()
            self._reservation, self._free = None, False
        if self._reservation is None:
            try:
                self._reservation = await self._limiter.acquire(self.identity, round(expected))
            except ApiError as error:
                self._refuse(error)
                raise
        item = self.waiting(expected)
        output = self._admission.expected_output(self.identity.team, self.effort, request.sampling.max_tokens)
        try:
            with self.listener.queueing() if self.listener else nullcontext():
                await self._admission.enter(item, self.deadline if self._began is None else self.stops_at, output)
        except (RateLimitError, OverloadedError, AnswerTimeoutError) as error:
            self._refuse(error)
            raise
        self._expected += expected
        self._held = item.slots

    def _refuse(self, error: ApiError) -> None:
        self._refusal = error
        if self.on_refused is not None:
            self.on_refused(error)

    def _expected_tokens(self, request: EngineRequest) -> float:
        prompt = self.prompt_tokens
        if prompt is None:
            prompt = 0 if self._prompts else len(request.prompt_token_ids)
        output = self._admission.expected_output(self.identity.team, self.effort, request.sampling.max_tokens)
        return prompt + output * self.sequences

    def _release_idle(self) -> None:
        self._releasing = None
        idle = self._held - self._running
        if idle > 0:
            self._held -= idle
            self._admission.release(self.identity.team, idle)
        if self._closed and not self._running and not self._detached and not self._settled:
            self._settled = True
            self._settle()

    def _settle(self) -> None:
        tokens = self.spent_prompt + self.spent_output
        if self._reservation is not None:
            if tokens or self._free:
                self._reservation.settle(tokens)
            else:
                self._reservation.undo()
        if self._began is not None:
            each = max(1, self.spent_output // max(1, self.sequences))
            self._admission.finished(
                self.identity.team,
                self.effort,
                expected=self._expected,
                tokens=tokens,
                output=each if self.spent_output else 0,
                seconds=self._clock() - self._began,
            )
