from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest

from serving.api.openai.responses.archive import ResponseArchive
from serving.api.openai.responses.inflight import InFlight, Interruptible
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.http_server import Until


class Numbers:
    """Three numbers and then silence; says whether that has begun, and was ended."""

    def __init__(self) -> None:
        self.silent = False
        self.ended = False

    async def events(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                yield number
            self.silent = True
            await asyncio.sleep(3600)
        finally:
            self.ended = True


async def taken(interruptible: Interruptible, numbers: Numbers, seen: list[int]) -> str:
    source = numbers.events()
    while (event := await interruptible.next(source)) is not None:
        seen.append(event)
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the task is as good as new
    return "ended"


async def reading(until: Until) -> tuple[Interruptible, Numbers, list[int], asyncio.Task[str]]:
    interruptible, numbers, seen = Interruptible(), Numbers(), list[int]()
    task = asyncio.create_task(taken(interruptible, numbers, seen))
    await until(lambda: numbers.silent)
    return interruptible, numbers, seen, task


async def test_an_interruption_ends_the_wait_and_not_the_task(until: Until) -> None:
    interruptible, numbers, seen, task = await reading(until)
    interruptible.interrupt("cancelled")
    interruptible.interrupt("timeout")
    assert await task == "ended"
    assert (seen, numbers.ended, interruptible.reason) == ([0, 1, 2], True, "cancelled")
    assert task.cancelling() == 0


async def test_an_interruption_between_two_events_is_seen_at_the_next() -> None:
    interruptible, source = Interruptible(), Numbers().events()
    assert await interruptible.next(source) == 0
    interruptible.interrupt("cancelled")
    assert await interruptible.next(source) is None
    await source.aclose()


@pytest.mark.parametrize("order", ["interrupted first", "cancelled first", "cancelled alone"])
async def test_a_cancelled_task_is_cancelled_all_the_same(until: Until, order: str) -> None:
    interruptible, numbers, _, task = await reading(until)
    if order == "interrupted first":
        interruptible.interrupt("cancelled")
    task.cancel()
    if order == "cancelled first":
        interruptible.interrupt("cancelled")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert numbers.ended


async def test_time_that_is_over_interrupts() -> None:
    interruptible, numbers = Interruptible(), Numbers()
    with interruptible.after(0.02):
        assert await taken(interruptible, numbers, []) == "ended"
    assert interruptible.reason == "timeout"
    calm = Interruptible()
    with calm.after(0.01):
        pass
    await asyncio.sleep(0.03)
    assert calm.reason is None


async def test_nobody_asks_the_store_while_nothing_is_under_way(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr("serving.api.openai.responses.inflight._ASK_EVERY_S", 0.01)
    archive = ResponseArchive(MemoryStore(StoreLimits(60, 10**6, 10**6)), lambda: 0.0)
    in_flight, interruptible = InFlight(archive), Interruptible()
    before = len(asyncio.all_tasks())
    async with in_flight.running("resp_1", interruptible), in_flight.running("resp_2", Interruptible()):
        assert len(asyncio.all_tasks()) == before + 1
        assert not in_flight.interrupt("resp_3")
        await archive.ask_to_cancel("resp_1")
        await until(lambda: interruptible.reason is not None)
    assert len(asyncio.all_tasks()) == before
