from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.settings.teams import Team
from serving.tenancy.rate_limits.base import Amounts, Report
from serving.tenancy.rate_limits.lease import Lease


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(clock: Clock) -> Lease:
    return Lease("research", "one", clock)


def corrected(report: Report | None) -> list[tuple[float, int, int]]:
    assert report is not None
    return [(each.age_s, each.requests, each.tokens) for each in report.corrections]


def test_it_counts_the_units_that_the_team_has_limits_in(lease: Lease) -> None:
    def counted() -> tuple[bool, bool, bool]:
        return lease.counts("requests"), lease.counts("tokens"), lease.counts("slots")

    assert counted() == (False, False, False)
    lease.limits = Team(tokens_per_month=10, concurrent_requests=1)
    assert counted() == (False, True, True)


def test_a_reservation_takes_what_there_is_and_names_the_rest(lease: Lease) -> None:
    lease.grant(Amounts(2, 100, 1))
    assert lease.reserve(Amounts(1, 150, 1)) == (Amounts(1, 100, 1), Amounts(0, 50, 0))
    assert lease.reserve(Amounts(1, 10, 1)) == (Amounts(1, 0, 0), Amounts(0, 10, 1))


def test_what_was_not_needed_after_all_is_there_again(lease: Lease) -> None:
    lease.grant(Amounts(1, 100, 1))
    got, _ = lease.reserve(Amounts(1, 100, 1))
    lease.unreserve(got)
    assert lease.reserve(Amounts(1, 100, 1)) == (Amounts(1, 100, 1), Amounts())


def test_a_quarter_seconds_use_is_taken_in_advance_and_one_request_at_least(lease: Lease, clock: Clock) -> None:
    assert lease.spare() == Amounts(1, 0, 1)
    for _ in range(200):
        clock.now += 0.025
        lease.record_start(50)
    spare = lease.spare()
    assert spare.requests == pytest.approx(10, abs=2)
    assert spare.tokens == 50 * spare.requests


class TestReports:
    def test_nothing_is_due_where_nothing_has_happened(self, lease: Lease) -> None:
        assert lease.report() is None

    def test_corrections_of_a_second_go_together_with_their_age_and_once(self, lease: Lease, clock: Clock) -> None:
        lease.correct(clock.now, 0, -30)
        lease.correct(clock.now + 0.5, -1, 10)
        lease.correct(clock.now + 1, 0, 5)
        clock.now += 3
        assert corrected(lease.report()) == [(3.0, -1, -20), (2.0, 0, 5)]
        assert lease.report() is None

    def test_corrections_that_did_not_arrive_are_in_the_next_report(self, lease: Lease, clock: Clock) -> None:
        lease.correct(clock.now, -1, -30)
        first = lease.report()
        assert first is not None
        lease.restore(first)
        clock.now += 2
        again = lease.report()
        assert corrected(again) == [(2.0, -1, -30)]
        assert again is not None
        assert again.sequence > first.sequence

    def test_what_lies_unused_for_five_seconds_goes_back(self, lease: Lease, clock: Clock) -> None:
        lease.grant(Amounts(3, 200, 0))
        clock.now += 4
        assert lease.report() is None
        clock.now += 2
        assert corrected(lease.report()) == [(6.0, -3, -200)]
        assert lease.reserve(Amounts(1, 1, 0))[0] == Amounts()

    def test_idle_slots_go_back_after_a_quarter_second(self, lease: Lease, clock: Clock) -> None:
        lease.grant(Amounts(0, 0, 3))
        lease.reserve(Amounts(0, 0, 2))
        lease.release_slots(1)
        clock.now += 0.2
        assert lease.report() is None
        clock.now += 0.1
        report = lease.report()
        assert report is not None
        assert report.held == 1

    def test_slots_in_use_are_reported_every_five_seconds(self, lease: Lease, clock: Clock) -> None:
        lease.grant(Amounts(0, 0, 1))
        lease.reserve(Amounts(0, 0, 1))
        held = []
        for _ in range(12):
            clock.now += 1
            if report := lease.report():
                held.append(report.held)
        assert held == [1, 1]


def test_it_expires_when_it_is_idle_and_holds_and_owes_nothing(lease: Lease, clock: Clock) -> None:
    lease.grant(Amounts(0, 0, 1))
    lease.reserve(Amounts(0, 0, 1))
    seen = []
    clock.now += 121
    seen.append(lease.expired)
    lease.release_slots(1)
    clock.now += 1
    lease.report()
    seen.append(lease.expired)
    clock.now += 120
    seen.append(lease.expired)
    lease.correct(clock.now, 0, 1)
    seen.append(lease.expired)
    assert seen == [False, False, True, False]


class LeaseMachine(RuleBasedStateMachine):
    """Grants, reservations, settlements and lost reports in any order: the store's count is the use and the spare."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.lease = Lease("research", "one", self.clock)
        self.counted = self.used = 0
        self.reserved: list[tuple[float, int]] = []

    @rule(tokens=st.integers(0, 100))
    def grant(self, tokens: int) -> None:
        self.lease.grant(Amounts(0, tokens, 0))
        self.counted += tokens

    @rule(tokens=st.integers(0, 100))
    def reserve(self, tokens: int) -> None:
        got, _ = self.lease.reserve(Amounts(0, tokens, 0))
        self.reserved.append((self.clock.now, got.tokens))

    @precondition(lambda self: self.reserved)
    @rule(tokens=st.integers(0, 200))
    def settle(self, tokens: int) -> None:
        at, reserved = self.reserved.pop()
        self.lease.correct(at, 0, tokens - reserved)
        self.used += tokens

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(arrives=st.booleans())
    def report(self, arrives: bool) -> None:
        report = self.lease.report()
        if report is None:
            return
        if arrives:
            self.counted += sum(each.tokens for each in report.corrections)
        else:
            self.lease.restore(report)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.lease.tokens >= 0

    def teardown(self) -> None:
        if report := self.lease.report():
            self.counted += sum(each.tokens for each in report.corrections)
        assert self.counted == self.used + self.lease.tokens + sum(tokens for _, tokens in self.reserved)


TestLeaseMachine = pytest.mark.property(LeaseMachine.TestCase)
