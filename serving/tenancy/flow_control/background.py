"""Queue of background requests: lines of batches, which have the slots of a model that no other request needs.

Background requests are the lowest class of all. They are dispatched only while no other request waits, up to a part of
the slots, and leave the slots in reserve idle, so that a request that comes finds one at once. When requests wait all
the same, as many background requests as they need slots are interrupted, the latest first: each gives its slot back
within a step of its engine, and goes on from its tokens later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.fair_queue import FairQueue, QueueEntry
from serving.tenancy.flow_control.saturation import Saturation
from serving.tenancy.throughput import Mean

_DEFAULT_OUTPUT_TOKENS = 256.0
_QUIET_S = 0.2
"""Time after an interruption for which none is dispatched: requests come in bursts."""


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: QueueEntry
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    dispatched: bool = False


class BackgroundQueue:
    """Background requests of one model in one ingress replica, over the slots of its admission queue `slots`.

    Teams share by weight. Nothing is refused: the owner of the requests sends few at a time. `admits` says whether
    engines can work on an entry; `returned` is called when slots have come back. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        slots: FairQueue,
        saturation: Saturation,
        admits: Callable[[QueueEntry], bool],
        returned: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._saturation = saturation
        self._engines_admit = admits
        self._returned = returned
        self._clock = clock
        self._queue = FairQueue(1, reserve=0, max_queued=1, newcomers=False)
        self._left_idle = 0
        self._waiters: dict[int, _Waiter] = {}
        self._running: dict[int, QueueEntry] = {}
        self._interrupted: dict[int, int] = {}
        self._quiet_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._output = Mean(_DEFAULT_OUTPUT_TOKENS)

    @property
    def fill(self) -> float:
        """0: background requests wait for idle engines, and are answered as they ask."""
        return 0.0

    @property
    def slots(self) -> int:
        """Most slots that background requests hold."""
        return self._queue.slots

    @property
    def waiting(self) -> int:
        """Number of background requests that wait."""
        return self._queue.waiting

    @property
    def in_use(self) -> int:
        """Number of slots that background requests hold."""
        return self._queue.in_use

    def resize(self, capacity: Capacity) -> None:
        """Take a new capacity; the caller dispatches."""
        self._left_idle = min(capacity.slots - 1, max(1, capacity.reserve))
        self._queue.resize(max(1, capacity.background), reserve=0, max_queued=2**31)

    def expected_output(self, team: str, effort: str, most: int) -> float:
        """Tokens that an answer will probably have, `most` at most."""
        return min(float(most), self._output.value)

    def deny_if_full(self, entry: QueueEntry) -> None:
        """Deny nothing: the requests of others are never in the way of these, nor these in theirs."""

    def acquire_now(self, entry: QueueEntry, deadline: float | None, output_tokens: float) -> bool:
        """Take the slots of `entry` where they are idle and nobody waits; False where it has to acquire() them."""
        if self._quiet or not self._queue.start_now(entry, self._admits):
            return False
        self._begun(entry)
        return True

    async def acquire(self, entry: QueueEntry, deadline: float | None, output_tokens: float) -> None:
        """Wait until slots are idle for `entry`; release() gives them back. Cancellation leaves the queue."""
        self._queue.arrive(entry)
        waiter = self._waiters[id(entry)] = _Waiter(entry)
        self.dispatch()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            self._waiters.pop(id(entry), None)
            if waiter.dispatched:
                self.ended(entry)
                self.release(entry.team, entry.slots)
            else:
                self._queue.leave(entry)
            raise

    def ended(self, entry: QueueEntry) -> None:
        """Count no more what `entry` needs of an engine; its last slot is released."""
        self._saturation.ended(entry)
        self._running.pop(id(entry), None)
        self._interrupted.pop(id(entry), None)

    def computed(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Count prompt tokens, of which engines had `cached_tokens` in their prefix cache."""
        self._saturation.computed(prompt_tokens, cached_tokens)

    def release(self, team: str, slots: int) -> None:
        """Give slots back; requests that wait for them come first."""
        self._queue.free(team, slots)
        self._slots.lend(-slots)
        self._returned()

    def settle(self, team: str, effort: str, *, expected: float, tokens: int, output: int, seconds: float) -> None:
        """Charge the team for the `tokens` that a request cost in place of those `expected`."""
        self._queue.settle(team, tokens - expected)
        if output:
            self._output.add(output)

    def dispatch(self) -> None:
        """Dispatch waiting requests to idle slots; interrupt running ones where other requests wait for slots."""
        if self._slots.waiting:
            self._interrupt()
            return
        if not self._queue.waiting or self._quiet:
            return
        while entry := self._queue.next(self._admits):
            self._begun(entry)
            waiter = self._waiters.pop(id(entry))
            if waiter.turn.done():  # cancelled, and its task has not run since
                self.ended(entry)
                self._queue.free(entry.team, entry.slots)
                self._slots.lend(-entry.slots)
            else:
                waiter.dispatched = True
                waiter.turn.set_result(None)

    @property
    def _quiet(self) -> bool:
        """Whether an interruption was a moment ago; dispatch() is called after the moment."""
        left = self._quiet_until - self._clock()
        if left <= 0:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._on_timer)
        return True

    def _on_timer(self) -> None:
        self._timer = None
        self.dispatch()

    def _admits(self, entry: QueueEntry) -> bool:
        slots = min(entry.slots, self._queue.slots)
        if self._slots.waiting or self._slots.idle - slots < self._left_idle:
            return False
        return self._engines_admit(entry)

    def _begun(self, entry: QueueEntry) -> None:
        self._slots.lend(entry.slots)
        self._saturation.admitted(entry)
        self._running[id(entry)] = entry

    def _interrupt(self) -> None:
        """Interrupt as many of the latest requests as the waiting ones need slots."""
        missing = self._slots.waiting_slots - sum(self._interrupted.values())
        for key, entry in reversed(list(self._running.items())):
            if missing <= 0:
                return
            if key in self._interrupted or entry.interrupt is None:
                continue
            self._interrupted[key] = entry.slots
            self._quiet_until = self._clock() + _QUIET_S
            missing -= entry.slots
            entry.interrupt()
