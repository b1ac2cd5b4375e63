"""Permits of requests that cost nothing, and of answers that outlive their request; more in answering/test_access."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from serving.engine.base import EngineRequest, Sampling
from serving.errors import RateLimitError
from serving.settings.teams import Team
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.admission import AdmissionQueue
from serving.tenancy.flow_control.capacity import Capacity
from serving.tenancy.flow_control.permit import AdmissionPermit
from serving.tenancy.rate_limits.limiter import Limiter
from serving.tenancy.rate_limits.memory import MemoryLimitStore

SEGMENT = EngineRequest("r", list(range(100)), Sampling(max_tokens=50))


@dataclass
class Clock:
    now: float = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Gives permits to one team, and says what is left to it."""

    def __init__(self, **limits: int) -> None:
        self.clock = Clock()
        self.identity = Identity("research", Team(**limits))
        self.store = MemoryLimitStore(self.clock)
        self.limiter = self._limiter("one")
        self.admission = AdmissionQueue("demo", Capacity(2, 0, 4), self.clock, many_teams=False)

    def _limiter(self, holder: str) -> Limiter:
        return Limiter(self.store, holder=holder, replicas=1, clock=self.clock, wall=self.clock)

    def permit(self, deadline: float | None = None) -> AdmissionPermit:
        return AdmissionPermit(self.identity, self.limiter, self.admission, self.clock, deadline)

    async def left(self) -> tuple[int, int]:
        """Requests and tokens of this minute, once everything is told."""
        await self.limiter.close()
        again = self._limiter("two")
        (await again.acquire(self.identity, 0)).cancel()
        requests, tokens = again.windows(self.identity)
        assert requests is not None
        assert tokens is not None
        return requests.left + 1, tokens.left


async def worked(permit: AdmissionPermit, tokens: int) -> None:
    """One segment of engine work."""
    await permit.acquire(SEGMENT)
    permit.spent.add(SEGMENT, tokens, 0)
    permit.release()


async def test_a_request_that_is_admitted_costs_itself_alone() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    permit = desk.permit()
    await permit.reserve_request()
    await permit.reserve_request()
    permit.close()
    assert await desk.left() == (9, 1000)


async def test_it_is_refused_over_the_limit_and_says_so() -> None:
    desk = Desk(requests_per_minute=1)
    refusals: list[object] = []
    await desk.permit().reserve_request()
    permit = desk.permit()
    permit.on_denied = refusals.append
    with pytest.raises(RateLimitError):
        await permit.reserve_request()
    assert len(refusals) == 1


async def test_it_counts_among_concurrent_requests_until_it_is_over() -> None:
    desk = Desk(concurrent_requests=1)
    first = desk.permit()
    await first.reserve_request()
    with pytest.raises(RateLimitError):
        await desk.permit().reserve_request()
    first.close()
    await desk.permit().reserve_request()


async def test_one_that_needs_an_engine_after_all_pays_once_and_for_that() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    permit = desk.permit()
    await permit.reserve_request()
    await worked(permit, 20)
    permit.close()
    assert await desk.left() == (9, 1000 - 120)


async def test_a_shared_ticket_pays_for_what_is_made_after_its_request_is_over() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    permit = desk.permit()
    permit.share()
    await worked(permit, 20)
    permit.close()
    await worked(permit, 30)
    assert desk.admission.in_use <= 1
    permit.unshare()
    assert await desk.left() == (9, 1000 - 150)
    assert not desk.admission.in_use


async def test_a_shared_ticket_that_is_given_back_first_is_settled_by_its_request() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    permit = desk.permit()
    permit.share()
    await worked(permit, 20)
    permit.unshare()
    permit.close()
    assert await desk.left() == (9, 1000 - 120)


async def test_a_shared_ticket_that_was_never_used_costs_nothing() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    permit = desk.permit()
    permit.share()
    permit.close()
    permit.unshare()
    assert await desk.left() == (10, 1000)


async def test_its_deadline_stops_no_work_while_it_is_shared() -> None:
    desk = Desk()
    permit = desk.permit(deadline=desk.clock.now + 5)
    assert permit.stops_at == permit.deadline
    permit.share()
    assert permit.stops_at is None
    await worked(permit, 1)
    desk.clock.now += 10
    # Another segment, with its slots given up in between.
    await asyncio.sleep(0.05)
    assert not desk.admission.in_use
    await worked(permit, 1)
    permit.unshare()
    assert permit.stops_at == permit.deadline
