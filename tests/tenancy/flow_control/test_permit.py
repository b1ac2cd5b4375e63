"""Tickets of requests that cost nothing, and of answers that outlive their request; more is in api/test_access.py."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from serving.engine.base import EngineRequest, Sampling
from serving.errors import RateLimitError
from serving.settings.teams import Team
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.flow_control.admission import Admission, Capacity
from serving.tenancy.flow_control.permit import Ticket
from serving.tenancy.rate_limits.limiter import Limiter
from serving.tenancy.rate_limits.memory import MemoryLimitStore

LEG = EngineRequest("r", list(range(100)), Sampling(max_tokens=50))


@dataclass
class Clock:
    now: float = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Gives tickets to one team, and says what is left to it."""

    def __init__(self, **limits: int) -> None:
        self.clock = Clock()
        self.identity = Identity("research", Team(**limits))
        self.limiter = Limiter(
            MemoryLimitStore(self.clock), holder="one", replicas=1, clock=self.clock, wall=self.clock
        )
        self.admission = Admission("demo", Capacity(2, 0, 4), self.clock, many_teams=False)

    def ticket(self, deadline: float | None = None) -> Ticket:
        return Ticket(self.identity, self.limiter, self.admission, self.clock, deadline)

    async def left(self) -> tuple[int, int]:
        """Requests and tokens of this minute, once everything is told."""
        await self.limiter.close()
        again = Limiter(self.limiter._store, holder="two", replicas=1, clock=self.clock, wall=self.clock)
        (await again.acquire(self.identity, 0)).undo()
        requests, tokens = again.windows(self.identity)
        assert requests is not None
        assert tokens is not None
        return requests.left + 1, tokens.left


async def worked(ticket: Ticket, tokens: int) -> None:
    """One segment of engine work."""
    await ticket.begin(LEG)
    ticket.count(LEG, tokens, 0)
    ticket.end()


async def test_a_request_that_is_admitted_costs_itself_alone() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    ticket = desk.ticket()
    await ticket.admit()
    await ticket.admit()
    ticket.over()
    assert await desk.left() == (9, 1000)


async def test_it_is_refused_over_the_limit_and_says_so() -> None:
    desk = Desk(requests_per_minute=1)
    refusals: list[object] = []
    await desk.ticket().admit()
    ticket = desk.ticket()
    ticket.on_refused = refusals.append
    with pytest.raises(RateLimitError):
        await ticket.admit()
    assert len(refusals) == 1


async def test_it_counts_among_concurrent_requests_until_it_is_over() -> None:
    desk = Desk(concurrent_requests=1)
    first = desk.ticket()
    await first.admit()
    with pytest.raises(RateLimitError):
        await desk.ticket().admit()
    first.over()
    await desk.ticket().admit()


async def test_one_that_needs_an_engine_after_all_pays_once_and_for_that() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    ticket = desk.ticket()
    await ticket.admit()
    await worked(ticket, 20)
    ticket.over()
    assert await desk.left() == (9, 1000 - 120)


async def test_a_lent_ticket_pays_for_what_is_made_after_its_request_is_over() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    ticket = desk.ticket()
    ticket.lend()
    await worked(ticket, 20)
    ticket.over()
    await worked(ticket, 30)
    assert desk.admission.in_use <= 1
    ticket.give_back()
    assert await desk.left() == (9, 1000 - 150)
    assert not desk.admission.in_use


async def test_a_lent_ticket_that_is_given_back_first_is_settled_by_its_request() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    ticket = desk.ticket()
    ticket.lend()
    await worked(ticket, 20)
    ticket.give_back()
    ticket.over()
    assert await desk.left() == (9, 1000 - 120)


async def test_a_lent_ticket_that_was_never_used_costs_nothing() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000)
    ticket = desk.ticket()
    ticket.lend()
    ticket.over()
    ticket.give_back()
    assert await desk.left() == (10, 1000)


async def test_its_deadline_stops_no_work_while_it_is_lent() -> None:
    desk = Desk()
    ticket = desk.ticket(deadline=desk.clock.now + 5)
    assert ticket.stops_at == ticket.deadline
    ticket.lend()
    assert ticket.stops_at is None
    await worked(ticket, 1)
    desk.clock.now += 10
    # Another segment, with its places given up in between.
    ticket._release()
    await worked(ticket, 1)
    ticket.give_back()
    assert ticket.stops_at == ticket.deadline
