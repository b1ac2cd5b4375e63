"""Admission queue in front of a model's engines.

Each ingress replica has its own queue for each model, and an equal part of the engines' slots. One queue for all
replicas would be fair to the request, but every request would then wait for a round trip when a slot comes free, to a
process whose loss stops all replicas. HAProxy spreads requests evenly over the replicas, so each queue sees the same
teams in the same proportions, and shares that hold in every queue hold over all of them.

The engines' own queues, which are not fair, are kept short: the admission queue hands a request over when there is a
slot for it (the engine's max_num_seqs, and a small margin so that an engine never waits for the next request).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.engine.load import EngineLoad
from serving.errors import AnswerTimeoutError, ApiError, DeadlineExceededError, OverloadedError, RateLimitError
from serving.tenancy.flow_control.background import BackgroundQueue
from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.fair_queue import FairQueue, QueueEntry, QueueFull
from serving.tenancy.flow_control.saturation import REPORT_EVERY_S, Saturation
from serving.tenancy.throughput import Mean, Rate

_DEFAULT_OUTPUT_TOKENS = 256.0
_LONGEST_RETRY_AFTER_S = 60.0
_MOST_MEANS = 10_000


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: QueueEntry
    since: float
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    dispatched: bool = False


class AdmissionQueue:
    """Admission queue of one model in one ingress replica. `clock` is monotonic, in seconds.

    `many_teams` False means that one team alone sends requests, so that no slots are kept in reserve for another.
    """

    def __init__(self, model: str, capacity: Capacity, clock: Callable[[], float], *, many_teams: bool) -> None:
        self._model = model
        self._clock = clock
        self._queue = FairQueue(
            capacity.slots, reserve=capacity.reserve, max_queued=capacity.max_queued, newcomers=many_teams
        )
        self._waiters: dict[int, _Waiter] = {}
        self._recheck: asyncio.TimerHandle | None = None
        self._tokens = Rate(clock)
        self._requests = Rate(clock)
        self._token_s = Mean(0.0)
        self._saturation = Saturation(clock, self._token_s)
        self._saturation.resize(engines=capacity.engines, ingresses=capacity.ingresses)
        self._output = Mean(_DEFAULT_OUTPUT_TOKENS)
        self._output_of: dict[tuple[str, str], Mean] = {}
        self._promised = 0.0
        self._promised_at = clock()
        self.background = BackgroundQueue(self._queue, self._saturation, self._admits, self._dispatch, clock)
        self.background.resize(capacity)

    @property
    def fill(self) -> float:
        """Requests waiting as a part of the most that may wait, 0 to 1."""
        return self._queue.fill

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return self._queue.waiting

    @property
    def waiting_tokens(self) -> float:
        """Tokens of KV cache that waiting requests will take, with answers of the usual length."""
        return sum(each.entry.prompt_tokens + each.entry.answer_tokens for each in self._waiters.values())

    @property
    def waiting_sequences(self) -> int:
        """Slots that waiting requests ask for."""
        return sum(each.entry.slots for each in self._waiters.values())

    @property
    def longest_wait_s(self) -> float:
        """Seconds that the request waits which has waited for the longest; 0 while none does."""
        return max((self._clock() - each.since for each in self._waiters.values()), default=0.0)

    @property
    def in_use(self) -> int:
        """Number of slots in use."""
        return self._queue.in_use

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self._queue.slots

    @property
    def saturation(self) -> float:
        """Part in use of what the engines may have from this ingress replica, by their reports; 0 without any."""
        return self._saturation.ratio

    def resize(self, capacity: Capacity) -> None:
        """Change the capacity, after the number of engines or ingress replicas has changed."""
        self._queue.resize(capacity.slots, reserve=capacity.reserve, max_queued=capacity.max_queued)
        self._saturation.resize(engines=capacity.engines, ingresses=capacity.ingresses)
        self.background.resize(capacity)
        self._dispatch()

    def report(self, load: EngineLoad) -> None:
        """Take an engine's load, and dispatch the requests that it has capacity for."""
        self._saturation.report(load)
        self._dispatch()

    def expected_output(self, team: str, effort: str, most: int) -> float:
        """Tokens that an answer will probably have, `most` at most, by the team's last answers at that effort."""
        mean = self._output_of.get((team, effort), self._output)
        return min(float(most), mean.value)

    def deny_if_full(self, entry: QueueEntry) -> None:
        """Raise RateLimitError or OverloadedError where the queue has no room for `entry` now.

        A check before any work is put into a request; acquire() checks again.
        """
        queue = self._queue
        if queue.waiting < queue.max_queued:
            return
        share = queue.share(entry)
        if queue.waiting_of(entry.team) >= queue.max_queued * share:
            raise self._queue_full("over_share" if share < 1 else "full", entry)

    def acquire_now(self, entry: QueueEntry, deadline: float | None, output_tokens: float) -> bool:
        """Take the slots of `entry` where they are free and nobody waits; False where it has to acquire() them.

        Raises AnswerTimeoutError and OverloadedError as acquire() does.
        """
        if deadline is not None:
            self._deny_late(entry, deadline, output_tokens)
        if not self._queue.start_now(entry, self._admits):
            return False
        self._saturation.admitted(entry)
        return True

    async def acquire(self, entry: QueueEntry, deadline: float | None, output_tokens: float) -> None:
        """Wait in the queue until `entry` has its slots; release() gives them back.

        `deadline` is by the clock. Raises RateLimitError where the team has too many requests in the queue,
        OverloadedError where the queue is full or too slow for the deadline, AnswerTimeoutError where the deadline
        is too short for any engine, and DeadlineExceededError where it passes in the queue. Cancellation leaves the
        queue.
        """
        if deadline is not None:
            self._deny_late(entry, deadline, output_tokens)
        try:
            evicted = self._queue.arrive(entry)
        except QueueFull as error:
            raise self._queue_full(error.reason, entry) from error
        if evicted is not None:
            turn = self._waiters.pop(id(evicted)).turn
            if not turn.done():  # its request may be leaving by itself at this moment
                turn.set_exception(self._queue_full("over_share", evicted))
        waiter = self._waiters[id(entry)] = _Waiter(entry, self._clock())
        self._dispatch()
        try:
            if not waiter.turn.done():
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._clock())):
                    await waiter.turn
        except TimeoutError as error:
            self._withdraw(waiter)
            raise DeadlineExceededError("The request's time ran out while it waited for its turn.") from error
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def ended(self, entry: QueueEntry) -> None:
        """Count no more what `entry` needs of an engine; its last slot is released."""
        self._saturation.ended(entry)

    def computed(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Count prompt tokens, of which engines had `cached_tokens` in their prefix cache."""
        self._saturation.computed(prompt_tokens, cached_tokens)

    def release(self, team: str, slots: int) -> None:
        """Give slots back, and dispatch waiting requests to them."""
        self._queue.free(team, slots)
        self._dispatch()

    def settle(self, team: str, effort: str, *, expected: float, tokens: int, output: int, seconds: float) -> None:
        """Charge the team for the `tokens` that a request cost in place of those `expected`.

        `output` tokens an answer in `seconds` go into the estimates for later requests.
        """
        self._queue.settle(team, tokens - expected)
        self._tokens.add(tokens)
        self._requests.add(1)
        if output:
            self._token_s.add(seconds / output)
            self._output.add(output)
            if len(self._output_of) > _MOST_MEANS:
                self._output_of.clear()  # teams come and go; a few requests restore the means of those that stay
            self._output_of.setdefault((team, effort), Mean(self._output.value)).add(output)

    def _dispatch(self) -> None:
        while entry := self._queue.next(self._admits):
            waiter = self._waiters.pop(id(entry))
            if waiter.turn.done():  # cancelled, and its task has not run since
                self._queue.free(entry.team, entry.slots)
            else:
                self._saturation.admitted(entry)
                waiter.dispatched = True
                waiter.turn.set_result(None)
        self.background.dispatch()

    def _admits(self, entry: QueueEntry) -> bool:
        admits = self._saturation.admits(entry, self._queue.in_use)
        if not admits and self._recheck is None:  # a lost engine's reports just end
            self._recheck = asyncio.get_running_loop().call_later(2 * REPORT_EVERY_S, self._on_recheck)
        return admits

    def _on_recheck(self) -> None:
        self._recheck = None
        self._dispatch()

    def _withdraw(self, waiter: _Waiter) -> None:
        """Take a request out of the queue, or give back the slots that it was just dispatched to."""
        entry = waiter.entry
        self._waiters.pop(id(entry), None)
        if waiter.dispatched:
            self.ended(entry)
            self.release(entry.team, entry.slots)
        else:
            self._queue.leave(entry)
            self._dispatch()  # a request behind a wide one may fit
        if waiter.turn.done() and not waiter.turn.cancelled():
            waiter.turn.exception()  # retrieved, or asyncio logs it

    def _deny_late(self, entry: QueueEntry, deadline: float, output_tokens: float) -> None:
        if not self._token_s.known:
            return
        left = deadline - self._clock()
        answering = output_tokens * self._token_s.value
        if answering > left:
            raise AnswerTimeoutError(
                f"An answer takes about {answering:.1f} s, and the request allows {max(left, 0):.1f} s. "
                "Allow more time, or ask for fewer tokens.",
                code="deadline_unattainable",
            )
        waiting = self._wait_s(entry)
        if waiting + answering > left:
            raise OverloadedError(
                f"The request would wait about {waiting:.1f} s for its turn, too long to be answered in "
                f"{max(left, 0):.1f} s.",
                code="deadline_unattainable",
                retry_after_s=min(_LONGEST_RETRY_AFTER_S, waiting + answering - left),
            )

    def _wait_s(self, entry: QueueEntry) -> float:
        if not self._queue.waiting or not self._tokens.known:
            return 0.0
        return self._queue.ahead(entry) / max(self._tokens.per_second, 1e-9)

    def _queue_full(self, reason: str, entry: QueueEntry) -> ApiError:
        wait = self._retry_after_s(entry)
        if reason == "over_share":
            return RateLimitError(
                f"Your team has more requests waiting for model '{self._model}' than its share. "
                f"Try again in {wait:.1f} s.",
                code="queue_full",
                retry_after_s=wait,
            )
        return OverloadedError(
            f"Too many requests wait for model '{self._model}'. Try again in {wait:.1f} s.",
            code="queue_full",
            retry_after_s=wait,
        )

    def _retry_after_s(self, entry: QueueEntry) -> float:
        """Seconds until the queue will have room, by the rate at which it drains.

        Each request that is told a time counts as ahead of the next one, so that all do not come back at once.
        """
        now = self._clock()
        rate = self._requests.per_second * self._queue.share(entry) if self._requests.known else 1.0
        rate = max(rate, 1 / _LONGEST_RETRY_AFTER_S)
        self._promised = max(0.0, self._promised - (now - self._promised_at) * rate) + 1
        self._promised_at = now
        return min(_LONGEST_RETRY_AFTER_S, self._promised / rate)
