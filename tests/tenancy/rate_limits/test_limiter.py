from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from serving.errors import QuotaExceededError, RateLimitError, StoreUnavailableError
from serving.settings.teams import Team
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.rate_limits.base import Acquisition, Denied, Granted, LimitStore, Report
from serving.tenancy.rate_limits.limiter import Limiter, Reservation
from serving.tenancy.rate_limits.memory import MemoryLimitStore

NOW = 1_760_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class CountingStore(MemoryLimitStore):
    """Counts how often it is asked, and cannot be reached while `lost`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked = self.told = 0
        self.lost = False

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        self._reached()
        self.asked += 1
        return await super().acquire(acquisition)

    async def report(self, reports: Sequence[Report]) -> None:
        self._reached()
        self.told += 1
        await super().report(reports)

    def _reached(self) -> None:
        if self.lost:
            raise StoreUnavailableError("lost")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> CountingStore:
    return CountingStore(clock)


def limiter(store: LimitStore, clock: Clock, name: str = "one", replicas: int = 1) -> Limiter:
    return Limiter(store, holder=name, replicas=replicas, clock=clock, wall=clock)


def team(**limits: int) -> Identity:
    return Identity("research", Team(**limits))


async def taken(limits: Limiter, identity: Identity, tokens: int = 1) -> Reservation | None:
    try:
        return await limits.acquire(identity, tokens)
    except RateLimitError:
        return None


@pytest.mark.parametrize(("rate", "seed"), [(300, 1), (3000, 2)])
async def test_eight_replicas_admit_what_one_would(store: CountingStore, clock: Clock, rate: int, seed: int) -> None:
    """Flooded with three times the limit for three minutes, unevenly."""
    chance, identity = random.Random(seed), team(requests_per_minute=rate)
    replicas = [limiter(store, clock, str(number)) for number in range(8)]
    weights = [8, 4, 2, 2, 1, 1, 1, 1]
    admitted, flushed = 0, clock.now
    while clock.now < NOW + 180:
        clock.now += chance.expovariate(3 * rate / 60)
        claim = await taken(chance.choices(replicas, weights)[0], identity)
        if claim:
            admitted += 1
            claim.settle(1)
        if clock.now - flushed > 0.1:
            flushed = clock.now
            for each in replicas:
                await each.flush()

    assert admitted == pytest.approx(3 * rate, rel=0.05)


async def test_tokens_are_counted_as_they_turn_out(store: CountingStore, clock: Clock) -> None:
    """Estimates of 120 are settled at 60 to 140; what counts in the end is the latter."""
    chance, identity = random.Random(5), team(tokens_per_minute=12_000)
    replicas = [limiter(store, clock, str(number)) for number in range(8)]
    used, running = 0, list[tuple[float, Reservation]]()
    end = NOW + 360
    while clock.now < end:
        clock.now += 0.1
        claim = await taken(chance.choice(replicas), identity, 120)
        if claim:
            running.append((clock.now + 2, claim))
        while running and running[0][0] <= clock.now:
            tokens = chance.randint(60, 140)
            used += tokens
            running.pop(0)[1].settle(tokens)
        if round(clock.now * 10) % 2 == 0:
            for each in replicas:
                await each.flush()

    assert used == pytest.approx(6 * 12_000, rel=0.05)


async def test_most_requests_do_not_ask_the_store(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(requests_per_minute=60_000, tokens_per_minute=60_000_000)
    for _ in range(2000):
        clock.now += 0.01
        (await one.acquire(identity, 100)).settle(100)
        if round(clock.now * 100) % 10 == 0:
            await one.flush()

    assert store.asked < 200


async def test_a_flood_that_is_refused_anyway_does_not_reach_the_store(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(requests_per_minute=1)
    await one.acquire(identity, 1)
    for _ in range(1000):
        clock.now += 0.001
        assert await taken(one, identity) is None

    assert store.asked < 30


async def test_who_waits_as_told_gets_in(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(requests_per_minute=5, tokens_per_minute=1000)
    for _ in range(5):
        await one.acquire(identity, 100)
        clock.now += 3
    waits = []
    for _ in range(5):
        with pytest.raises(RateLimitError) as raised:
            await one.acquire(identity, 100)
        waits.append(raised.value.retry_after_s or 0.0)
        clock.now += 0.01
    start = clock.now - 0.05
    for number, wait in enumerate(waits):
        clock.now = start + number * 0.01 + wait + 0.001
        await one.acquire(identity, 100)


async def test_a_budget_says_when_it_is_new(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(tokens_per_day=100)
    await one.acquire(identity, 100)

    with pytest.raises(QuotaExceededError) as raised:
        await one.acquire(identity, 1)

    assert raised.value.headers()["x-should-retry"] == "false"
    assert raised.value.retry_after_s == 86400 - NOW % 86400


async def test_concurrent_requests_end_by_settling_and_by_undoing(store: CountingStore, clock: Clock) -> None:
    one, two, identity = limiter(store, clock), limiter(store, clock, "two"), team(concurrent_requests=2)
    first, second = await one.acquire(identity, 1), await two.acquire(identity, 1)
    assert await taken(one, identity) is None

    first.settle(5)
    second.cancel()
    second.cancel()
    clock.now += 1
    await one.flush()
    await two.flush()

    assert await taken(one, identity)
    assert await taken(one, identity)
    assert await taken(two, identity) is None


async def test_undoing_gives_back_the_request(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(requests_per_minute=1, tokens_per_minute=10)
    (await one.acquire(identity, 10)).cancel()
    await one.flush()

    assert await taken(one, identity, 10)


async def test_a_client_that_leaves_while_the_store_is_asked_takes_nothing_with_it(clock: Clock) -> None:
    class Slow(CountingStore):
        async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
            outcome = await super().acquire(acquisition)
            await asyncio.sleep(0.01)
            return outcome

    one, identity = limiter(Slow(clock), clock), team(requests_per_minute=1, concurrent_requests=1)
    leaving = asyncio.create_task(one.acquire(identity, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.05)

    assert await taken(one, identity)


async def test_unused_spare_goes_back(store: CountingStore, clock: Clock) -> None:
    identity = team(requests_per_minute=1000)
    one, two = limiter(store, clock), limiter(store, clock, "two")
    for _ in range(40):
        clock.now += 0.05
        await one.acquire(identity, 1)
    clock.now += 6
    await one.flush()

    admitted = 0
    while await taken(two, identity):
        admitted += 1

    assert admitted == 960


async def test_without_the_store_each_replica_goes_by_its_own_part(
    store: CountingStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    one, identity = limiter(store, clock, replicas=4), team(requests_per_minute=40)
    store.lost = True

    admitted = sum([bool(await taken(one, identity)) for _ in range(100)])

    assert admitted == 10
    assert caplog.text.count("each ingress replica alone") == 1
    store.lost = False
    clock.now += 2
    assert await taken(one, identity)
    assert store.asked == 1


async def test_a_store_that_is_still_starting_is_waited_for_longer(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(CountingStore):
        async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
            await asyncio.sleep(0.3)
            return await super().acquire(acquisition)

    # Given a store that takes longer to answer than it may later
    monkeypatch.setattr("serving.tenancy.rate_limits.limiter._TIMEOUT_S", 0.05)
    store, identity = Slow(clock), team(requests_per_minute=1)
    replicas = [limiter(store, clock, "one", replicas=2), limiter(store, clock, "two", replicas=2)]
    # When two replicas ask it for the first time
    claims = await asyncio.gather(*(taken(each, identity) for each in replicas))
    # Then the limit holds for both together
    assert sum(claim is not None for claim in claims) == 1
    assert store.asked == 2
    # And from then on a replica does not wait so long
    clock.now += 120
    assert await taken(replicas[0], identity) is not None
    assert store.asked == 2


async def test_what_was_let_through_without_the_store_counts_once_it_is_back(
    store: CountingStore, clock: Clock
) -> None:
    # Given two replicas, one of which cannot reach the store for a moment and lets its own part through
    one, two = (limiter(store, clock, name, replicas=4) for name in ("one", "two"))
    identity = team(requests_per_minute=40)
    store.lost = True
    alone = sum([bool(await taken(one, identity)) for _ in range(100)])
    # When it can again
    store.lost = False
    clock.now += 2
    await one.flush()
    # Then the two have the limit together, not each its own
    together = alone
    while await taken(two, identity):
        together += 1
    assert (alone, together) == (10, 40)


async def test_what_could_not_be_told_is_told_later(store: CountingStore, clock: Clock) -> None:
    one, identity = limiter(store, clock), team(tokens_per_minute=1000)
    claim = await one.acquire(identity, 1000)
    claim.settle(100)
    store.lost = True
    await one.flush()
    store.lost = False
    clock.now += 2
    await one.flush()

    assert await taken(one, identity, 900)


async def test_a_team_without_limits_costs_nothing(store: CountingStore, clock: Clock) -> None:
    (await limiter(store, clock).acquire(team(), 10**9)).settle(10**9)

    assert store.asked == store.told == 0


async def test_budgets_go_on_where_the_accounts_say(store: CountingStore, clock: Clock) -> None:
    async def used() -> dict[str, tuple[int, int]]:
        return {"research": (80, 500)}

    one = limiter(store, clock)
    for _ in range(2):
        running = asyncio.create_task(one.run(used))
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert await taken(one, team(tokens_per_day=100), 30) is None
    assert await taken(one, team(tokens_per_month=510), 20) is None
    clock.now += 1
    assert await taken(one, team(tokens_per_day=100, tokens_per_month=520), 20)
