from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from serving_bench.arrivals import Ramp, steady
from serving_bench.collector import Collector
from serving_bench.outcome import CONTENT, Outcome, Usage
from serving_bench.runner import Load, Runner
from serving_bench.workload import Workload

Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Server:
    """Answers after `takes` seconds, and counts."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.numbers: list[int] = []
        self.under_way = self.most_under_way = self.stuck = 0

    async def perform(self, outcome: Outcome, body: bytes) -> None:
        self.numbers.append(outcome.number)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.stuck += self.takes >= 60
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        outcome.text(CONTENT, 1, time.perf_counter())
        outcome.usage = Usage(1, 1)


def runner(server: Server, collector: Collector, most_open: int = 100) -> Runner:
    return Runner(server.perform, Workload(), "demo", collector, most_open=most_open)


async def test_a_closed_loop_sends_as_many_as_asked_with_as_many_under_way() -> None:
    server, collector = Server(0.002), Collector(0.0)
    elapsed = await runner(server, collector).run(Load(concurrency=4, requests=25), asyncio.Event(), first=1000)
    assert sorted(server.numbers) == list(range(1000, 1025))
    assert server.most_under_way == 4
    assert collector.completed == 25
    assert elapsed > 0


async def test_after_its_time_a_closed_loop_waits_for_what_is_under_way() -> None:
    server, collector = Server(0.05), Collector(0.0)
    elapsed = await runner(server, collector).run(Load(concurrency=2, seconds=0.12), asyncio.Event())
    assert elapsed >= 0.12
    assert collector.completed == collector.sent == len(server.numbers)
    assert collector.interrupted == 0


async def test_an_open_loop_does_not_wait_for_replies() -> None:
    server, collector = Server(0.2), Collector(0.0)
    await runner(server, collector).run(Load(ramp=steady(400), requests=40), asyncio.Event())
    assert collector.completed == 40
    assert server.most_under_way > 10


async def test_an_open_loop_ends_with_its_time() -> None:
    server, collector = Server(), Collector(0.0)
    await runner(server, collector).run(Load(ramp=Ramp(200, 400, 0.2), seconds=0.2), asyncio.Event())
    assert 20 <= collector.completed <= 120, "60 on average, and the same for this seed"


async def test_the_same_seed_sends_the_same_number() -> None:
    counts = set()
    for _ in range(2):
        collector = Collector(0.0)
        await runner(Server(), collector).run(Load(ramp=steady(200), seconds=0.2), asyncio.Event(), first=7)
        counts.add(collector.completed)
    assert len(counts) == 1


async def test_time_in_the_generators_own_queue_counts_as_the_requests() -> None:
    """A loop that is late must not make the server look faster than its users find it."""
    collector = Collector(0.0)
    blocked = False

    async def perform(outcome: Outcome, body: bytes) -> None:
        nonlocal blocked
        if not blocked:
            blocked = True
            time.sleep(0.2)  # noqa: ASYNC251  (holds the loop up on purpose)

    loop = Runner(perform, Workload(), "demo", collector)
    await loop.run(Load(ramp=steady(1000), requests=100), asyncio.Event())
    assert collector.e2e.quantile(0.3) is not None
    assert (collector.e2e.quantile(0.3) or 0) > 0.05
    assert (loop.lag.quantile(1) or 0) > 0.1


async def test_more_than_may_be_open_are_counted_and_not_sent() -> None:
    server, collector = Server(0.3), Collector(0.0)
    await runner(server, collector, most_open=5).run(Load(ramp=steady(500), requests=30), asyncio.Event())
    assert server.most_under_way == 5
    assert collector.errors["not sent"] == 30 - collector.completed > 0


async def test_a_stop_keeps_what_there_was_and_drops_what_is_under_way(until: Until) -> None:
    server, collector, stop = Server(), Collector(0.0), asyncio.Event()
    run = asyncio.create_task(runner(server, collector).run(Load(concurrency=3), stop))
    await until(lambda: collector.completed >= 20)
    server.takes = 60
    await until(lambda: server.under_way == 3 and server.stuck == 3)
    stop.set()
    await run
    assert collector.interrupted == 3
    assert collector.completed >= 20
    assert collector.sent == collector.completed + 3
    assert server.under_way == 0


async def test_a_bug_is_not_taken_for_a_failed_request() -> None:
    async def perform(outcome: Outcome, body: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        await Runner(perform, Workload(), "demo", Collector(0.0)).run(Load(concurrency=2), asyncio.Event())
    assert raised.group_contains(ZeroDivisionError)


async def test_a_refusing_server_is_not_asked_in_a_tight_loop() -> None:
    collector = Collector(0.0)

    async def perform(outcome: Outcome, body: bytes) -> None:
        outcome.fail("status 503")

    await Runner(perform, Workload(), "demo", collector).run(Load(concurrency=2, seconds=0.25), asyncio.Event())
    assert collector.errors.total() <= 8
