"""One request's way through limits and line to the engines, and what it cost."""

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
from serving.tenancy.flow_control.admission import Admission
from serving.tenancy.flow_control.fair_queue import Waiting
from serving.tenancy.rate_limits.limiter import Limiter, Reservation

_T = TypeVar("_T")

# How long places are kept for a request whose engine work has ended: it may only be between two segments of its answer.
_BETWEEN_LEGS_S = 0.02


class Listener(Protocol):
    """Told of what happens to a request; the recorder of telemetry is one."""

    def queueing(self) -> AbstractContextManager[None]:
        """Around the wait in line."""
        ...


class Ticket:
    """Made when a request's model is known; `begin` and `end` stand around each engine request of its.

    The first `begin` takes from the team's limits and waits in line, for all sequences of the request together; the
    others wait for it, and for a place among those that it got. `over` says that the request is done with, by whoever
    knows; what was taken is settled when its last engine request has ended too. `clock` is monotonic; `deadline` too.

    A request whose answer costs no engine anything calls `admit` instead. While a ticket is lent, to the making of an
    answer that others may wait for, it outlives its request, and its deadline holds for the way in alone.
    """

    def __init__(
        self,
        identity: Identity,
        limiter: Limiter,
        admission: Admission,
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
        self._over = self._closed = self._lent = self._free = False
        self._began: float | None = None
        self._prompts: dict[int, list[int]] = {}

    @property
    def rank(self) -> int:
        """Of the team's class: 0 before 1."""
        return PRIORITIES.index(self.identity.policy.priority)

    def waiting(self, tokens: float = 1.0) -> Waiting:
        """The request, to stand in line."""
        policy = self.identity.policy
        return Waiting(self.identity.team, policy.weight, self.rank, tokens, self.sequences)

    def headers(self) -> list[tuple[str, str]]:
        """x-ratelimit-* as OpenAI sends them; none for teams without these limits."""
        requests, tokens = self._limiter.windows(self.identity)
        headers: list[tuple[str, str]] = []
        for name, window in (("requests", requests), ("tokens", tokens)):
            if window is not None:
                headers.append((f"x-ratelimit-limit-{name}", str(window.limit)))
                headers.append((f"x-ratelimit-remaining-{name}", str(window.left)))
                headers.append((f"x-ratelimit-reset-{name}", f"{window.full_in_s:.3f}s"))
        return headers

    async def begin(self, request: EngineRequest) -> None:
        """Returns when the engine may begin; raises what RateLimitError, OverloadedError or a deadline says."""
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
            place = asyncio.get_running_loop().create_future()
            self._waiters.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if not place.cancelled():
                    self._wake()  # it was this one's turn; it is another's now
                raise
            finally:
                self._waiters.remove(place)
        self._running += 1
        self._began = self._began or self._clock()

    async def admit(self) -> None:
        """Take the request itself from the team's limits, and no tokens; raises RateLimitError."""
        if self._reservation is None:
            try:
                self._reservation = await self._limiter.acquire(self.identity, 0)
            except RateLimitError as error:
                self._refuse(error)
                raise
            self._free = True

    def lend(self) -> None:
        """From here on the ticket serves an answer that others may wait for, until give_back()."""
        self._lent = True

    def give_back(self) -> None:
        """No more of that answer is made."""
        self._lent = False
        if self._over and not self._running:
            self._release()

    @property
    def stops_at(self) -> float | None:
        """When engine work for the ticket has to stop, by the clock."""
        return None if self._lent else self.deadline

    async def before_deadline(self, answer: Awaitable[_T]) -> _T:
        """What `answer` comes to, until the deadline; then DeadlineExceededError."""
        if self.deadline is None:
            return await answer
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._clock())):
                return await answer
        except TimeoutError as error:
            raise DeadlineExceededError("The request's time ran out while it waited for the model.") from error

    async def in_time(self, deltas: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        """`deltas` until the deadline; then DeadlineExceededError. Who closes `deltas` stops the engine."""
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

    def count(self, request: EngineRequest, tokens: int, cached: int) -> None:
        """The engine made `tokens` more for `request`. A prompt counts once, however many choices it has."""
        prompt = request.prompt_token_ids
        if id(prompt) not in self._prompts:
            self._prompts[id(prompt)] = prompt
            self.spent_prompt += len(prompt)
            self.spent_cached += cached
        self.spent_output += tokens

    def end(self) -> None:
        """An engine request that began is over."""
        self._running -= 1
        self._wake()

    def _wake(self) -> None:
        for place in self._waiters:
            if not place.done():
                place.set_result(None)
                return
        if self._over and not self._lent:
            self._release()
        elif self._releasing is None:
            # Not at once: the next segment may begin in the same turn of the loop.
            self._releasing = asyncio.get_running_loop().call_later(_BETWEEN_LEGS_S, self._release)

    def over(self) -> None:
        """The request is done with, answered or not."""
        self._over = True
        if not self._running and not self._lent:
            self._release()

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
        self._held = item.places

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

    def _release(self) -> None:
        self._releasing = None
        idle = self._held - self._running
        if idle > 0:
            self._held -= idle
            self._admission.release(self.identity.team, idle)
        if self._over and not self._running and not self._lent and not self._closed:
            self._closed = True
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
