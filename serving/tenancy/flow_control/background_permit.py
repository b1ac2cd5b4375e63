"""Admission permit of a background request, whose engine requests are interrupted when others need their slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from serving.settings.teams import PRIORITIES
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.background import BackgroundQueue
from serving.tenancy.flow_control.fair_queue import QueueEntry
from serving.tenancy.flow_control.permit import AdmissionPermit
from serving.tenancy.rate_limits.limiter import Limiter

_T = TypeVar("_T")


class BackgroundPermit(AdmissionPermit):
    """Permit of a background request: of the class below all of the teams' priorities, without a deadline.

    Between acquire() and release() the caller takes an engine's deltas by next(). After next() was interrupted,
    give_way() replaces release(), and acquire() waits for slots again. The team's limit of concurrent requests does
    not hold: the background queue bounds these requests, and they take none of the team's places.
    """

    def __init__(
        self, identity: Identity, limiter: Limiter, queue: BackgroundQueue, clock: Callable[[], float]
    ) -> None:
        super().__init__(identity, limiter, queue, clock, None)
        self.rank = len(PRIORITIES)
        self._concurrent = False
        self.interrupted = False
        self._taking: set[asyncio.Task[object]] = set()
        self._given_back = asyncio.Event()

    async def next(self, deltas: AsyncGenerator[_T, None]) -> _T | None:
        """The next of `deltas`; None at their end, and where the permit is interrupted. The caller closes `deltas`."""
        if self.interrupted:
            return None
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._taking.add(task)
        try:
            return await anext(deltas, None)
        except asyncio.CancelledError:
            # Of the interruption, unless the task is cancelled besides.
            if not self._is_interrupted() or task.uncancel() > 0:
                raise
            return None
        finally:
            self._taking.discard(task)

    def release(self) -> None:
        """See AdmissionPermit."""
        super().release()
        self._end_interruption()

    async def give_way(self) -> None:
        """Give the slot of an interrupted engine request back, and wait until the permit has none any more."""
        self._slots.give_way()
        self._end_interruption()
        if self.interrupted:
            await self._given_back.wait()

    def _is_interrupted(self) -> bool:
        return self.interrupted

    def _interrupt(self) -> None:
        """Ask for the slots; the queue calls it."""
        self.interrupted = True
        self._given_back.clear()
        for task in self._taking:
            task.cancel()
        self._taking.clear()
        self._end_interruption()

    def _end_interruption(self) -> None:
        if self.interrupted and not self._slots.running:
            self.interrupted = False
            self._slots.release_idle()
            self._given_back.set()

    def _entry(self, tokens: float) -> QueueEntry:
        entry = super()._entry(tokens)
        entry.interrupt = self._interrupt
        return entry
