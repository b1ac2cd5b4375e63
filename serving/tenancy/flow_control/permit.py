"""Admission permit of one request: its reservation of the team's limits, its engine slots, and their settlement."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from typing import Protocol, TypeVar

from serving.engine.base import EngineRequest
from serving.errors import AnswerTimeoutError, ApiError, DeadlineExceededError, OverloadedError, RateLimitError
from serving.settings.teams import PRIORITIES
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.background import BackgroundQueue
from serving.tenancy.flow_control.fair_queue import QueueEntry
from serving.tenancy.rate_limits.limiter import Limiter, Reservation

_T = TypeVar("_T")

_BETWEEN_SEGMENTS_S = 0.02
"""Time for which a request keeps idle slots: it may only be between two segments of its answer."""


class Listener(Protocol):
    """Observer of a request's wait; telemetry's recorder is one."""

    def queueing(self) -> AbstractContextManager[None]:
        """Context manager around the wait in the admission queue."""
        ...

    def not_queued(self) -> None:
        """Note that the request had its slots without a wait."""
        ...


class _Stage(Enum):
    NEW = auto()
    REQUEST_RESERVED = auto()
    TOKENS_RESERVED = auto()
    SETTLED = auto()


class _Owner(Flag):
    REQUEST = auto()
    SHARED_ANSWER = auto()


@dataclass(slots=True)
class Spent:
    """Tokens that the engines processed for a request. A prompt counts once, however many choices it has."""

    prompt: int = 0
    output: int = 0
    cached: int = 0
    _prompts: dict[int, list[int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Tokens of prompt and output, as the team's limits count them."""
        return self.prompt + self.output

    def add(self, request: EngineRequest, output: int, cached: int) -> None:
        """Count `output` tokens more for `request`, and its prompt with `cached` tokens of it the first time."""
        prompt = request.prompt_token_ids
        if id(prompt) not in self._prompts:
            self._prompts[id(prompt)] = prompt
            self.prompt += len(prompt)
            self.cached += cached
        self.output += output


class _Slots:
    """Engine slots of one request, shared by its engine requests.

    Idle slots go back to `queue` after _BETWEEN_SEGMENTS_S, unless `on_idle` has already given them back and returns
    True.
    """

    def __init__(self, queue: AdmissionQueue | BackgroundQueue, team: str, on_idle: Callable[[], bool]) -> None:
        self._queue = queue
        self._team = team
        self._on_idle = on_idle
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._entry: QueueEntry | None = None
        self.held = 0
        self.running = 0

    def take(self, entry: QueueEntry) -> None:
        """Hold the slots that the queue has given to `entry`."""
        self._entry, self.held = entry, entry.slots
        for turn in self._waiters:
            if not turn.done():
                turn.set_result(None)

    def keep(self) -> None:
        """Stop the timer that gives idle slots back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def acquire(self) -> None:
        """Wait until one of the slots held is idle, and take it."""
        while self.running >= self.held:
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake_next()  # this waiter had been woken; another takes its turn
                raise
            finally:
                self._waiters.remove(turn)
        self.running += 1

    def release(self) -> None:
        """Free the slot of an engine request that ended."""
        self.running -= 1
        self._wake_next()

    def give_way(self) -> None:
        """Free the slot of an engine request that was interrupted, for none of the request's own."""
        self.running -= 1

    def release_idle(self) -> None:
        """Give idle slots back to the queue."""
        self.keep()
        idle = self.held - self.running
        if idle > 0:
            self.held -= idle
            if not self.held and self._entry is not None:
                self._queue.ended(self._entry)
                self._entry = None
            self._queue.release(self._team, idle)

    def _wake_next(self) -> None:
        for turn in self._waiters:
            if not turn.done():
                turn.set_result(None)
                return
        if not self._on_idle() and self._timer is None:
            # Not at once: the next segment may begin in the same turn of the loop.
            self._timer = asyncio.get_running_loop().call_later(_BETWEEN_SEGMENTS_S, self.release_idle)


class AdmissionPermit:
    """Admission permit of one request: takes the team's rate-limit reservation and engine slots, and settles both with
    the tokens actually used.

        NEW -- reserve_request() --> REQUEST_RESERVED -- acquire() --> TOKENS_RESERVED
        NEW -- acquire() ----------> TOKENS_RESERVED
        any -- the last owner and the last engine request have ended --> SETTLED

    `acquire` and `release` surround each engine request. The first `acquire` reserves tokens of the team's limits and
    waits in the admission queue for slots for all sequences of the request together; further ones wait for it, and
    for an idle slot among those. A request that no engine answers calls `reserve_request` instead, and costs no
    tokens.

    Owners are the request, until `close`, and from `share` to `unshare` the making of an answer that other requests
    may wait for. A shared permit outlives its request, and its deadline holds for admission alone. When no owner and
    no engine request is left, the reservation is settled with the tokens of `spent`, or cancelled where there are
    none. `clock` and `deadline` are monotonic, in seconds. `rank` is that of the team's priority class, 0 before 1.
    """

    def __init__(
        self,
        identity: Identity,
        limiter: Limiter,
        queue: AdmissionQueue | BackgroundQueue,
        clock: Callable[[], float],
        deadline: float | None,
    ) -> None:
        self.identity = identity
        self.rank = PRIORITIES.index(identity.policy.priority)
        self.deadline = deadline
        self.effort = ""
        self.sequences = 1
        self.prompt_tokens: int | None = None
        self.listener: Listener | None = None
        self.on_denied: Callable[[ApiError], None] | None = None
        self.spent = Spent()
        self._limiter = limiter
        self.queue = queue
        self._clock = clock
        self._concurrent = True
        self._stage = _Stage.NEW
        self._owners = _Owner.REQUEST
        self._reservation: Reservation | None = None
        self._denial: ApiError | None = None
        self._expected = 0.0
        self._entering = asyncio.Lock()
        self._slots = _Slots(queue, identity.team, self._finish_if_unowned)
        self._began: float | None = None

    def deny_if_full(self) -> None:
        """Raise RateLimitError or OverloadedError where the queue has no room for the request now."""
        self.queue.deny_if_full(self._entry(1.0))

    def headers(self) -> list[tuple[str, str]]:
        """Headers x-ratelimit-* as OpenAI sends them; none for teams without limits per minute."""
        requests, tokens = self._limiter.windows(self.identity)
        headers: list[tuple[str, str]] = []
        for name, window in (("requests", requests), ("tokens", tokens)):
            if window is not None:
                headers.append((f"x-ratelimit-limit-{name}", str(window.limit)))
                headers.append((f"x-ratelimit-remaining-{name}", str(window.left)))
                headers.append((f"x-ratelimit-reset-{name}", f"{window.full_in_s:.3f}s"))
        return headers

    async def acquire(self, request: EngineRequest) -> None:
        """Wait until the engine may begin `request`; release() ends it.

        Raises RateLimitError, QuotaExceededError, OverloadedError or AnswerTimeoutError; a denial holds for all
        further engine requests of the permit.
        """
        self._slots.keep()
        if not self._slots.held:
            async with self._entering:
                if self._denial is not None:
                    raise self._denial
                if not self._slots.held:
                    await self._enter(request)
        await self._slots.acquire()
        self._began = self._began or self._clock()

    def release(self) -> None:
        """Free the slot of an engine request that acquire() let begin."""
        self._slots.release()

    async def reserve_request(self) -> None:
        """Reserve one request of the team's limits, and no tokens; raises RateLimitError."""
        if self._reservation is None:
            self._reservation = await self._reserve(0)
            self._stage = _Stage.REQUEST_RESERVED

    def share(self) -> None:
        """Make a shared answer an owner of the permit, until unshare()."""
        self._owners |= _Owner.SHARED_ANSWER

    def unshare(self) -> None:
        """End the shared answer's ownership: no more of the answer is made."""
        self._drop(_Owner.SHARED_ANSWER)

    def close(self) -> None:
        """End the request's ownership: the request is finished, answered or not."""
        self._drop(_Owner.REQUEST)

    @property
    def stops_at(self) -> float | None:
        """Time by the clock at which engine work for the permit has to stop; None while it is shared."""
        return None if _Owner.SHARED_ANSWER in self._owners else self.deadline

    async def before_deadline(self, answer: Awaitable[_T]) -> _T:
        """Await `answer` until the deadline; then raise DeadlineExceededError."""
        if self.deadline is None:
            return await answer
        try:
            async with asyncio.timeout(max(0.0, self.deadline - self._clock())):
                return await answer
        except TimeoutError as error:
            raise DeadlineExceededError("The request's time ran out while it waited for the model.") from error

    async def in_time(self, deltas: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        """Yield `deltas` until the deadline; then raise DeadlineExceededError. The caller closes `deltas`."""
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

    async def _enter(self, request: EngineRequest) -> None:
        """Reserve tokens, once, and wait in the admission queue for the request's slots."""
        output = self.queue.expected_output(self.identity.team, self.effort, request.sampling.max_tokens)
        answers = output * self.sequences
        prompt = self.prompt_tokens
        if prompt is None:
            prompt = 0 if self.spent.prompt else len(request.prompt_token_ids)
        expected = prompt + answers
        if self._stage is _Stage.REQUEST_RESERVED and self._reservation is not None:
            # No engine was to answer, and one does after all.
            self._reservation.cancel()
            self._reservation, self._stage = None, _Stage.NEW
        if self._reservation is None:
            self._reservation = await self._reserve(round(expected))
            self._stage = _Stage.TOKENS_RESERVED
        entry = self._entry(expected)
        entry.prompt_tokens = len(request.prompt_token_ids) + len(request.completion_token_ids)
        entry.answer_tokens = answers
        deadline = self.deadline if self._began is None else self.stops_at
        try:
            if self.queue.acquire_now(entry, deadline, output):
                if self.listener is not None:
                    self.listener.not_queued()
            else:
                with self.listener.queueing() if self.listener else nullcontext():
                    await self.queue.acquire(entry, deadline, output)
        except (RateLimitError, OverloadedError, AnswerTimeoutError) as error:
            self._deny(error)
            raise
        self._expected += expected
        self._slots.take(entry)

    def _entry(self, tokens: float) -> QueueEntry:
        """Entry of the request for the admission queue, at an expected cost of `tokens`."""
        policy = self.identity.policy
        return QueueEntry(self.identity.team, policy.weight, self.rank, tokens, self.sequences)

    async def _reserve(self, tokens: int) -> Reservation:
        try:
            return await self._limiter.acquire(self.identity, tokens, concurrent=self._concurrent)
        except ApiError as error:
            self._deny(error)
            raise

    def _deny(self, error: ApiError) -> None:
        self._denial = error
        if self.on_denied is not None:
            self.on_denied(error)

    def _drop(self, owner: _Owner) -> None:
        self._owners &= ~owner
        if not self._slots.running:
            self._finish_if_unowned()

    def _finish_if_unowned(self) -> bool:
        """Give idle slots back at once where no owner is left, and settle after the last engine request."""
        if self._owners:
            return False
        self._slots.release_idle()
        if not self._slots.running and self._stage is not _Stage.SETTLED:
            self._settle()
        return True

    def _settle(self) -> None:
        tokens = self.spent.total
        if self._reservation is not None:
            if tokens or self._stage is _Stage.REQUEST_RESERVED:
                self._reservation.settle(tokens)
            else:
                self._reservation.cancel()
        self._stage = _Stage.SETTLED
        if self._began is not None:
            self.queue.computed(self.spent.prompt, self.spent.cached)
            each = max(1, self.spent.output // max(1, self.sequences))
            self.queue.settle(
                self.identity.team,
                self.effort,
                expected=self._expected,
                tokens=tokens,
                output=each if self.spent.output else 0,
                seconds=self._clock() - self._began,
            )
