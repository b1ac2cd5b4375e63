from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.errors import AnswerTimeoutError, DeadlineExceededError, OverloadedError, RateLimitError
from serving.settings.admission import AdmissionSettings
from serving.settings.models import ModelSettings
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


def queue(clock: Clock, slots: int = 1, reserve: int = 0, max_queued: int = 4) -> AdmissionQueue:
    return AdmissionQueue("demo", Capacity(slots, reserve, max_queued), clock, many_teams=True)


def entry(team: str = "a", slots: int = 1, tokens: float = 100.0) -> QueueEntry:
    return QueueEntry(team, tokens=tokens, slots=slots)


async def waiting(admission: AdmissionQueue, each: QueueEntry, deadline: float | None = None) -> asyncio.Task[None]:
    """A request that has come as far as the queue."""
    task = asyncio.create_task(admission.acquire(each, deadline, 10.0))
    await asyncio.sleep(0)
    return task


def settle(admission: AdmissionQueue, times: int, *, output: int = 100, seconds: float = 10.0) -> None:
    for _ in range(times):
        admission.settle("a", "low", expected=output, tokens=output, output=output, seconds=seconds)


class TestCapacity:
    def test_ingress_replicas_share_the_slots_of_all_engines_rounded_up(self) -> None:
        model, admission = ModelSettings(source="/m", max_num_seqs=10), AdmissionSettings(margin=0, reserve=0.1)
        capacity = Capacity.of(model, admission, replicas=3, ingresses=4)
        assert (capacity.slots, capacity.reserve, capacity.max_queued) == (8, 1, 30)

    def test_each_has_one_slot_at_least_and_then_none_in_reserve(self) -> None:
        model, admission = ModelSettings(source="/m", max_num_seqs=1), AdmissionSettings(margin=0, reserve=0.5)
        capacity = Capacity.of(model, admission, replicas=1, ingresses=8)
        assert (capacity.slots, capacity.reserve, capacity.max_queued) == (1, 0, 1)

    def test_what_an_engine_reports_goes_before_the_settings(self) -> None:
        model, admission = ModelSettings(source="/m", max_num_seqs=10), AdmissionSettings(margin=0, reserve=0)
        assert Capacity.of(model, admission, replicas=1, ingresses=1, sequences=32).slots == 32


class TestWaiting:
    async def test_a_free_slot_is_taken_at_once_and_released_to_the_next(self, clock: Clock) -> None:
        admission = queue(clock)
        await admission.acquire(entry(), None, 10.0)
        second = await waiting(admission, entry("b"))
        assert (admission.in_use, admission.waiting, admission.fill) == (1, 1, 0.25)
        admission.release("a", 1)
        await asyncio.wait_for(second, 1)
        assert (admission.in_use, admission.waiting, admission.fill) == (1, 0, 0.0)

    async def test_a_request_that_finds_a_free_slot_and_no_queue_takes_it_without_waiting(self, clock: Clock) -> None:
        admission = queue(clock)
        assert admission.acquire_now(entry(), None, 10.0)
        assert not admission.acquire_now(entry("b"), None, 10.0)
        assert (admission.in_use, admission.waiting) == (1, 0)

    async def test_more_capacity_admits_those_that_wait(self, clock: Clock) -> None:
        admission = queue(clock)
        await admission.acquire(entry(), None, 10.0)
        tasks = [await waiting(admission, entry()) for _ in range(2)]
        admission.resize(Capacity(3, 0, 4))
        await asyncio.gather(*tasks)
        assert (admission.in_use, admission.slots) == (3, 3)

    async def test_a_request_cancelled_in_the_queue_leaves_it(self, clock: Clock) -> None:
        admission = queue(clock)
        await admission.acquire(entry(), None, 10.0)
        task = await waiting(admission, entry())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (admission.in_use, admission.waiting) == (1, 0)

    async def test_a_request_cancelled_as_it_gets_a_slot_gives_it_back(self, clock: Clock) -> None:
        admission = queue(clock)
        await admission.acquire(entry(), None, 10.0)
        cancelled, next_one = await waiting(admission, entry()), await waiting(admission, entry())
        admission.release("a", 1)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await asyncio.wait_for(next_one, 1)
        assert cancelled.cancelled()
        assert (admission.in_use, admission.waiting) == (1, 0)

    async def test_what_stood_behind_a_wide_request_is_admitted_when_that_leaves(self, clock: Clock) -> None:
        admission = queue(clock, slots=2)
        await admission.acquire(entry(), None, 10.0)
        wide, narrow = await waiting(admission, entry(slots=2)), await waiting(admission, entry())
        assert not narrow.done()
        wide.cancel()
        await asyncio.wait_for(narrow, 1)
        assert admission.in_use == 2


class TestDenial:
    async def test_a_team_alone_is_told_that_the_queue_is_full_and_later_times_each(self, clock: Clock) -> None:
        admission = queue(clock, max_queued=1)
        await admission.acquire(entry(), None, 10.0)
        task = await waiting(admission, entry())
        waits = []
        for _ in range(3):
            with pytest.raises(OverloadedError) as denied:
                await admission.acquire(entry(), None, 10.0)
            assert denied.value.code == "queue_full"
            waits.append(denied.value.retry_after_s)
        assert waits == [1.0, 2.0, 3.0]
        task.cancel()

    async def test_the_newest_of_a_team_over_its_share_is_evicted_for_another_team(self, clock: Clock) -> None:
        admission = queue(clock, max_queued=2)
        await admission.acquire(entry(), None, 10.0)
        older, newer = await waiting(admission, entry()), await waiting(admission, entry())
        other = await waiting(admission, entry("b"))
        with pytest.raises(RateLimitError, match=r"more requests waiting .* than its share"):
            await newer
        assert not older.done()
        assert not other.done()
        with pytest.raises(RateLimitError):
            admission.deny_if_full(entry())
        older.cancel()
        other.cancel()

    async def test_the_check_before_any_work_agrees_with_the_queue(self, clock: Clock) -> None:
        admission = queue(clock, max_queued=1)
        admission.deny_if_full(entry())
        await admission.acquire(entry(), None, 10.0)
        task = await waiting(admission, entry())
        with pytest.raises(OverloadedError):
            admission.deny_if_full(entry())
        admission.deny_if_full(entry("b"))
        task.cancel()


class TestDeadlines:
    async def test_one_that_passes_in_the_queue_ends_the_wait(self, clock: Clock) -> None:
        admission = queue(clock)
        await admission.acquire(entry(), None, 10.0)
        with pytest.raises(DeadlineExceededError):
            await admission.acquire(entry(), clock.now + 0.01, 10.0)
        assert admission.waiting == 0

    async def test_one_that_no_engine_can_keep_is_refused_at_once(self, clock: Clock) -> None:
        admission = queue(clock)
        settle(admission, 20)
        with pytest.raises(AnswerTimeoutError, match=r"about 20\.0 s, and the request allows 5\.0 s"):
            await admission.acquire(entry(), clock.now + 5, 200.0)
        assert (admission.in_use, admission.waiting) == (0, 0)

    async def test_one_that_the_queue_is_too_slow_for_is_refused_with_the_time_to_wait(self, clock: Clock) -> None:
        admission = queue(clock)
        settle(admission, 20)
        await admission.acquire(entry(), None, 10.0)
        task = await waiting(admission, entry(tokens=100_000))
        with pytest.raises(OverloadedError) as denied:
            await admission.acquire(entry(), clock.now + 5, 10.0)
        assert denied.value.code == "deadline_unattainable"
        assert denied.value.retry_after_s is not None
        assert 0 < denied.value.retry_after_s <= 60
        task.cancel()


class TestExpectedOutput:
    def test_a_team_is_known_by_its_answers_at_an_effort_and_others_by_all(self, clock: Clock) -> None:
        admission = queue(clock)
        assert admission.expected_output("a", "low", 10_000) == 256
        settle(admission, 200, output=50)
        assert admission.expected_output("a", "low", 10_000) == pytest.approx(50, abs=20)
        assert admission.expected_output("b", "low", 10_000) == pytest.approx(50, abs=40)
        assert admission.expected_output("a", "low", 20) == 20


class AdmissionMachine(RuleBasedStateMachine):
    """Requests that come, end, and leave in any order: no slot is lost, none is given twice, and no request hangs."""

    slots = 5

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.admission = queue(Clock(), slots=self.slots, reserve=1, max_queued=6)
        self.waiting: list[tuple[QueueEntry, asyncio.Task[None]]] = []
        self.running: list[QueueEntry] = []

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self.turn()
        return task

    def turn(self) -> None:
        """Let all tasks run until they wait."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        for each, task in list(self.waiting):
            if task.done():
                self.waiting.remove((each, task))
                if not task.cancelled() and task.exception() is None:
                    self.running.append(each)

    @rule(team=st.sampled_from("abc"), rank=st.integers(0, 1), slots=st.integers(1, 7), tokens=st.integers(0, 100))
    def come(self, team: str, rank: int, slots: int, tokens: int) -> None:
        each = QueueEntry(team, rank=rank, tokens=tokens, slots=slots)
        self.waiting.append((each, self.run(self.admission.acquire(each, None, 10.0))))
        self.turn()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(0, 200))
    def end(self, data: st.DataObject, tokens: int) -> None:
        each = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.admission.settle(each.team, "low", expected=each.tokens, tokens=tokens, output=tokens, seconds=1.0)
        self.admission.release(each.team, each.slots)
        self.turn()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, task = data.draw(st.sampled_from(self.waiting))
        task.cancel()
        self.turn()

    @precondition(lambda self: self.waiting and self.running)
    @rule(data=st.data())
    def leave_as_a_slot_comes_free(self, data: st.DataObject) -> None:
        each = self.running.pop()
        self.admission.release(each.team, each.slots)
        _, task = data.draw(st.sampled_from(self.waiting))
        task.cancel()
        self.turn()

    @invariant()
    def slots_are_those_of_the_running(self) -> None:
        assert self.admission.in_use == sum(each.slots for each in self.running) <= self.slots

    @invariant()
    def requests_wait_behind_running_ones_alone(self) -> None:
        assert self.admission.waiting == len(self.waiting) <= 6
        assert self.running or not self.waiting

    def teardown(self) -> None:
        for _, task in self.waiting:
            task.cancel()
        self.turn()
        self.loop.close()


TestAdmissionMachine = pytest.mark.property(AdmissionMachine.TestCase)
