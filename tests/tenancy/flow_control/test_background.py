from __future__ import annotations

import asyncio

import pytest

from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.fair_queue import QueueEntry


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(clock: Clock, slots: int = 10, reserve: int = 1, background: int = 5) -> AdmissionQueue:
    capacity = Capacity(slots, reserve, 40, background=background)
    return AdmissionQueue("demo", capacity, clock, many_teams=True)


class Line:
    """A line of a batch that holds its slot until it is asked for it."""

    def __init__(self, admission: AdmissionQueue, team: str = "a", weight: float = 1.0) -> None:
        self.background = admission.background
        self.entry = QueueEntry(team, weight=weight, rank=3, tokens=100.0, interrupt=self.interrupt)
        self.interruptions = 0

    def interrupt(self) -> None:
        self.interruptions += 1

    def starts(self) -> bool:
        return self.background.acquire_now(self.entry, None, 10.0)

    def ends(self) -> None:
        self.background.ended(self.entry)
        self.background.release(self.entry.team, self.entry.slots)


async def waiting(line: Line) -> asyncio.Task[None]:
    task = asyncio.create_task(line.background.acquire(line.entry, None, 10.0))
    await asyncio.sleep(0)
    return task


async def interactive(admission: AdmissionQueue, team: str = "b") -> asyncio.Task[None]:
    task = asyncio.create_task(admission.acquire(QueueEntry(team), None, 10.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_lines_fill_their_part_of_the_slots_and_no_more(clock: Clock) -> None:
    admission = queue(clock)
    assert [Line(admission).starts() for _ in range(7)] == [True] * 5 + [False] * 2
    assert admission.in_use == 5


async def test_lines_leave_the_reserve_idle(clock: Clock) -> None:
    admission = queue(clock, slots=4, reserve=2, background=4)
    assert [Line(admission).starts() for _ in range(4)] == [True, True, False, False]


async def test_a_line_runs_where_there_is_one_slot_alone(clock: Clock) -> None:
    admission = queue(clock, slots=1, reserve=0, background=1)
    assert Line(admission).starts()


async def test_a_line_waits_for_a_slot_and_gets_it_when_one_comes_free(clock: Clock) -> None:
    admission = queue(clock, background=1)
    first, second = Line(admission), Line(admission)
    assert first.starts()
    task = await waiting(second)
    assert not task.done()

    first.ends()
    await task

    assert admission.background.in_use == 1


async def test_a_request_finds_an_idle_slot_beside_lines(clock: Clock) -> None:
    admission = queue(clock)
    lines = [Line(admission) for _ in range(5)]
    assert all(line.starts() for line in lines)

    assert admission.acquire_now(QueueEntry("b"), None, 10.0)

    assert not any(line.interruptions for line in lines)


async def test_a_request_without_a_slot_interrupts_the_latest_line_and_has_its_slot_at_once(clock: Clock) -> None:
    admission = queue(clock, slots=2, reserve=1, background=1)
    line = Line(admission)
    assert line.starts()
    assert admission.acquire_now(QueueEntry("b"), None, 10.0)

    request = await interactive(admission, "c")
    assert line.interruptions == 1  # and not once more for the same slot
    line.ends()
    await request

    assert (admission.background.in_use, admission.in_use) == (0, 2)


async def test_as_many_lines_are_interrupted_as_requests_wait_the_latest_first(clock: Clock) -> None:
    admission = queue(clock, slots=4, reserve=1, background=3)
    lines = [Line(admission) for _ in range(3)]
    assert all(line.starts() for line in lines)
    assert admission.acquire_now(QueueEntry("b"), None, 10.0)

    requests = [await interactive(admission, f"team-{n}") for n in range(2)]

    assert [line.interruptions for line in lines] == [0, 1, 1]
    for line in lines[1:]:
        line.ends()
    await asyncio.gather(*requests)


async def test_no_line_starts_while_a_request_waits_nor_right_after(clock: Clock) -> None:
    admission = queue(clock, slots=2, reserve=1, background=1)
    line, next_line = Line(admission), Line(admission)
    assert line.starts()
    assert admission.acquire_now(QueueEntry("b"), None, 10.0)
    task = await waiting(next_line)
    request = await interactive(admission, "c")

    line.ends()
    await request
    admission.release("b", 1)
    admission.release("c", 1)
    await asyncio.sleep(0)
    assert not task.done()  # requests come in bursts

    clock.now += 1
    admission.background.dispatch()
    await task


async def test_lines_that_wait_fill_no_queue(clock: Clock) -> None:
    admission = queue(clock, slots=2, reserve=1, background=1)
    assert Line(admission).starts()
    tasks = [await waiting(Line(admission)) for _ in range(100)]

    assert admission.fill == 0
    assert admission.waiting == 0
    assert admission.acquire_now(QueueEntry("b"), None, 10.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert admission.background.waiting == 0


async def test_teams_share_by_weight(clock: Clock) -> None:
    admission = queue(clock, background=1)
    running = Line(admission)
    assert running.starts()
    order: list[str] = []

    async def one(line: Line) -> None:
        await line.background.acquire(line.entry, None, 10.0)
        order.append(line.entry.team)
        line.ends()

    tasks = [
        asyncio.create_task(one(Line(admission, team, weight)))
        for team, weight in (("heavy", 3.0), ("light", 1.0))
        for _ in range(8)
    ]
    await asyncio.sleep(0)
    running.ends()
    await asyncio.gather(*tasks)

    assert order[:8].count("heavy") == 6


async def test_a_line_that_is_cancelled_as_it_gets_its_slot_gives_it_back(clock: Clock) -> None:
    admission = queue(clock, background=1)
    first, second = Line(admission), Line(admission)
    assert first.starts()
    task = await waiting(second)

    first.ends()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (admission.in_use, admission.background.in_use) == (0, 0)
