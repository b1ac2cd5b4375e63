"""Runner of one level: sends requests until there were enough, time is up, or it is stopped."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from serving_bench.arrivals import Ramp, arrivals
from serving_bench.collector import Collector
from serving_bench.distribution import Distribution
from serving_bench.outcome import INTERRUPTED, NOT_SENT, Outcome
from serving_bench.workload import Workload

Perform = Callable[[Outcome, bytes], Coroutine[Any, Any, None]]
"""Client.perform: one request, its result in the outcome."""

MOST_OPEN = 8192
"""Requests an open loop has under way at most; those due beyond that are counted as not sent."""

_AFTER_FAILURE_S = 0.1
_LAG_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Load:
    """Load of one level: `concurrency` requests at all times, or arrivals at the rates of `ramp`.

    Ends after `requests` or `seconds`, whichever is given and comes first; what is under way then is waited for.
    """

    concurrency: int | None = None
    ramp: Ramp | None = None
    requests: int | None = None
    seconds: float | None = None


class Runner:
    """One run. `collector` gets every outcome; `in_flight` and `lag` can be watched meanwhile."""

    def __init__(
        self,
        perform: Perform,
        workload: Workload,
        model: str,
        collector: Collector,
        *,
        clock: Callable[[], float] = time.perf_counter,
        most_open: int = MOST_OPEN,
    ) -> None:
        self.in_flight = 0
        self.lag = Distribution()
        self._perform = perform
        self._workload = workload
        self._model = model
        self._collector = collector
        self._clock = clock
        self._most_open = most_open

    async def run(self, load: Load, stop: asyncio.Event, first: int = 0) -> float:
        """Run, and return the seconds that it took.

        Requests are numbered from `first`; once `stop` is set, what is under way is dropped.
        """
        started = self._clock()
        numbers: Iterator[int] = itertools.islice(itertools.count(first), load.requests)
        deadline = started + load.seconds if load.seconds is not None else None
        if load.ramp is None:
            work = self._closed(numbers, load.concurrency or 1, deadline)
        else:
            # A round's arrivals are its own, and the same for every target.
            due = (started + after for after in arrivals(load.ramp, self._workload.seed + first))
            work = self._open(zip(numbers, due, strict=False), deadline)
        async with self._lag_watched():
            await _until_stopped(work, stop)
        return self._clock() - started

    async def _closed(self, numbers: Iterator[int], concurrency: int, deadline: float | None) -> None:
        async def stream() -> None:
            for number in numbers:
                if deadline is not None and self._clock() >= deadline:
                    return
                outcome = Outcome(number, self._clock())
                await self._one(outcome)
                if outcome.error is not None:
                    # A server that refuses at once would otherwise be asked in a tight loop.
                    await asyncio.sleep(_AFTER_FAILURE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(stream())

    async def _open(self, planned: Iterator[tuple[int, float]], deadline: float | None) -> None:
        async with asyncio.TaskGroup() as group:
            for number, due in planned:
                if deadline is not None and due >= deadline:
                    return
                await asyncio.sleep(max(0.0, due - self._clock()))
                outcome = Outcome(number, due)
                if self.in_flight >= self._most_open:
                    outcome.fail(NOT_SENT, f"{self._most_open} requests were open")
                    outcome.ended = self._clock()
                    self._collector.add(outcome)
                else:
                    group.create_task(self._one(outcome))

    async def _one(self, outcome: Outcome) -> None:
        self.in_flight += 1
        try:
            await self._perform(outcome, self._workload.body(self._model, outcome.number))
        except asyncio.CancelledError:
            outcome.fail(INTERRUPTED)
            raise
        finally:
            self.in_flight -= 1
            outcome.ended = self._clock()
            self._collector.add(outcome)

    @asynccontextmanager
    async def _lag_watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                due = self._clock() + _LAG_EVERY_S
                await asyncio.sleep(_LAG_EVERY_S)
                self.lag.add(max(0.0, self._clock() - due))

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)


async def _until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Await `work`; cancel it once `stop` is set."""
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        else:
            working.result()
    finally:
        stopped.cancel()
        working.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)
