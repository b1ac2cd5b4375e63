"""One set of promises, kept by every backend."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import SecretStr

from serving.errors import SettingsError, StoreUnavailableError
from serving.settings.limits import period_end
from serving.settings.teams import Team
from serving.tenancy.rate_limits.base import (
    Acquisition,
    Amounts,
    Correction,
    Denied,
    Granted,
    LimitStore,
    Report,
)
from serving.tenancy.rate_limits.memory import MemoryLimitStore
from serving.tenancy.rate_limits.redis import RedisLimitStore

NONE = Amounts()
NOW = 1_760_000_000.25  # 2025-10-09 08:53:20 UTC


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, clock: Clock) -> Any:
    made: LimitStore
    if request.param == "memory":
        made = MemoryLimitStore(clock)
    else:
        made = RedisLimitStore(request.getfixturevalue("redis_url"), clock=clock)
    yield made
    await made.close()


class Replica:
    """Asks as an ingress replica does."""

    def __init__(self, store: LimitStore, limits: Team, name: str = "one") -> None:
        self.store, self.limits, self.name = store, limits, name
        self.sequence = self.held = 0

    async def acquire(
        self, requests: int = 0, tokens: int = 0, slots: int = 0, *, spare: Amounts = NONE, team: str = "a"
    ) -> Granted | Denied:
        self.sequence += 1
        need = Amounts(requests, tokens, slots)
        outcome = await self.store.acquire(
            Acquisition(team, self.limits, self.name, self.sequence, self.held, need, spare)
        )
        if isinstance(outcome, Granted):
            self.held += outcome.got.slots
        return outcome

    async def report(self, *corrections: Correction) -> None:
        self.sequence += 1
        await self.store.report([Report("a", self.limits, self.name, self.sequence, self.held, corrections)])


async def test_a_minute_has_its_limit_and_then_room_again(store: LimitStore, clock: Clock) -> None:
    replica = Replica(store, Team(requests_per_minute=10))
    for _ in range(10):
        assert isinstance(await replica.acquire(requests=1), Granted)
        clock.now += 1

    refused = await replica.acquire(requests=1)

    assert isinstance(refused, Denied)
    assert refused.limit == "requests_per_minute"
    assert refused.retry_after_s is not None
    assert refused.retry_after_s == pytest.approx(50.75)
    clock.now += refused.retry_after_s - 0.01
    assert isinstance(await replica.acquire(requests=1), Denied)
    clock.now += 0.02
    assert isinstance(await replica.acquire(requests=1), Granted)


async def test_no_sixty_seconds_have_more_than_the_limit(store: LimitStore, clock: Clock) -> None:
    replica, chance, taken = Replica(store, Team(tokens_per_minute=1000)), random.Random(3), list[tuple[float, int]]()
    for _ in range(400):
        clock.now += chance.expovariate(2.0)
        tokens = chance.randint(1, 60)
        if isinstance(await replica.acquire(tokens=tokens), Granted):
            taken.append((clock.now, tokens))

    for end, _ in taken:
        assert sum(tokens for at, tokens in taken if end - 60 < at <= end) <= 1000
    # Nor much less than could be used, once the first minute is over.
    used = sum(tokens for at, tokens in taken if at > NOW + 61)
    assert used >= 0.95 * 1000 * (clock.now - NOW - 61) / 60 - 1000


async def test_who_was_refused_is_told_a_time_of_their_own(store: LimitStore, clock: Clock) -> None:
    replica = Replica(store, Team(requests_per_minute=4))
    for _ in range(4):
        await replica.acquire(requests=1)
        clock.now += 2
    refused = [await replica.acquire(requests=1) for _ in range(4)]
    told = [each.retry_after_s for each in refused if isinstance(each, Denied) and each.retry_after_s]
    assert len(told) == 4
    assert told == sorted(told)

    start = clock.now
    for wait in told:
        clock.now = start + wait + 0.001
        assert isinstance(await replica.acquire(requests=1), Granted)


async def test_several_limits_are_taken_together_or_not_at_all(store: LimitStore) -> None:
    replica = Replica(store, Team(requests_per_minute=100, tokens_per_minute=50))
    await replica.acquire(requests=1, tokens=50)
    refused = await replica.acquire(requests=1, tokens=1)

    assert isinstance(refused, Denied)
    assert refused.limit == "tokens_per_minute"
    assert refused.requests is not None
    assert refused.tokens is not None
    assert (refused.requests.left, refused.tokens.left) == (99, 0)


async def test_a_request_larger_than_the_limit_goes_when_all_is_free(store: LimitStore, clock: Clock) -> None:
    replica = Replica(store, Team(tokens_per_minute=50))

    assert isinstance(await replica.acquire(tokens=500), Granted)
    refused = await replica.acquire(tokens=10)
    assert isinstance(refused, Denied)
    assert refused.retry_after_s is not None
    clock.now += refused.retry_after_s + 0.001
    assert isinstance(await replica.acquire(tokens=500), Granted)


async def test_an_estimate_is_settled_where_it_was_taken(store: LimitStore, clock: Clock) -> None:
    replica = Replica(store, Team(tokens_per_minute=100, tokens_per_day=1000))
    await replica.acquire(tokens=100)
    clock.now += 5
    await replica.report(Correction(5, 0, -60))

    taken = await replica.acquire(tokens=60)
    assert isinstance(taken, Granted)
    clock.now += 56.5  # what the correction belongs to has left the window, and it with it
    taken = await replica.acquire(tokens=40)
    assert isinstance(taken, Granted)
    assert taken.tokens is not None
    assert taken.tokens.left == 0


async def test_concurrent_requests_are_counted_over_all_replicas(store: LimitStore) -> None:
    limits = Team(concurrent_requests=3)
    one, two = Replica(store, limits, "one"), Replica(store, limits, "two")
    assert isinstance(await one.acquire(slots=2), Granted)
    assert isinstance(await two.acquire(slots=1), Granted)

    refused = await two.acquire(slots=1)
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.retry_after_s) == ("concurrent_requests", None)
    one.held -= 1
    await one.report()
    assert isinstance(await two.acquire(slots=1), Granted)


async def test_what_a_lost_replica_held_comes_free(store: LimitStore, clock: Clock) -> None:
    limits = Team(concurrent_requests=1)
    await Replica(store, limits, "lost").acquire(slots=1)
    other = Replica(store, limits, "other")
    assert isinstance(await other.acquire(slots=1), Denied)

    clock.now += 16

    assert isinstance(await other.acquire(slots=1), Granted)


async def test_a_late_message_does_not_undo_a_newer_one(store: LimitStore) -> None:
    limits = Team(concurrent_requests=2)
    one, two = Replica(store, limits, "one"), Replica(store, limits, "two")
    await one.acquire(slots=2)
    await store.report([Report("a", limits, "one", 0, 0)])

    assert isinstance(await two.acquire(slots=1), Denied)


async def test_a_day_and_a_month_end(store: LimitStore, clock: Clock) -> None:
    replica = Replica(store, Team(tokens_per_day=100, tokens_per_month=150))
    assert isinstance(await replica.acquire(tokens=100), Granted)

    refused = await replica.acquire(tokens=1)
    assert isinstance(refused, Denied)
    assert refused.limit == "tokens_per_day"
    assert refused.retry_after_s == pytest.approx(period_end("day", NOW) - NOW, abs=0.01)
    clock.now = period_end("day", clock.now)
    assert isinstance(await replica.acquire(tokens=50), Granted)
    refused = await replica.acquire(tokens=1)
    assert isinstance(refused, Denied)
    assert refused.limit == "tokens_per_month"
    assert refused.retry_after_s is not None
    assert clock.now + refused.retry_after_s == pytest.approx(1761955200, abs=0.01)  # 2025-11-01
    clock.now = period_end("month", clock.now)
    assert isinstance(await replica.acquire(tokens=100), Granted)


async def test_spare_is_given_while_there_is_plenty(store: LimitStore) -> None:
    replica = Replica(store, Team(requests_per_minute=6000, tokens_per_minute=100_000))

    taken = await replica.acquire(requests=1, tokens=100, spare=Amounts(10, 10_000))
    assert isinstance(taken, Granted)
    assert taken.got == Amounts(11, 2100)
    await replica.acquire(tokens=97_000)
    taken = await replica.acquire(requests=1, tokens=100, spare=Amounts(10, 10_000))
    assert isinstance(taken, Granted)
    assert taken.got == Amounts(11, 300)


async def test_of_a_budget_that_nears_its_end_nothing_is_given_to_spare(store: LimitStore) -> None:
    replica = Replica(store, Team(tokens_per_day=100_000))
    plenty = await replica.acquire(tokens=100, spare=Amounts(0, 1000))
    await replica.acquire(tokens=98_898)
    little = await replica.acquire(tokens=1, spare=Amounts(0, 1000))

    assert isinstance(plenty, Granted)
    assert plenty.got.tokens == 1100
    assert isinstance(little, Granted)
    assert little.got.tokens == 1


async def test_teams_do_not_share(store: LimitStore) -> None:
    replica = Replica(store, Team(requests_per_minute=1))
    await replica.acquire(requests=1)

    assert isinstance(await replica.acquire(requests=1, team="b"), Granted)


@pytest.fixture
async def redis(redis_url: SecretStr, clock: Clock) -> Any:
    store = RedisLimitStore(redis_url, clock=clock)
    yield store
    await store.close()


async def test_both_backends_say_the_same(clock: Clock, redis: RedisLimitStore) -> None:
    limits = Team(
        requests_per_minute=300,
        tokens_per_minute=9000,
        concurrent_requests=9,
        tokens_per_day=90_000,
        tokens_per_month=140_000,
    )
    chance = random.Random(11)
    pairs = [(Replica(MemoryLimitStore(clock), limits, name), Replica(redis, limits, name)) for name in ("one", "two")]
    pairs[1][0].store = pairs[0][0].store
    for _ in range(1500):
        clock.now += chance.choice((0.01, 0.3, 5, 90)) if chance.random() < 0.98 else 20_000
        memory, real = chance.choice(pairs)
        if chance.random() < 0.3:
            memory.held = real.held = max(0, memory.held - chance.randint(0, 3))
            correction = Correction(chance.choice((0, 2, 70)), chance.randint(-2, 2), chance.randint(-200, 200))
            await memory.report(correction)
            await real.report(correction)
            continue
        spare = Amounts(chance.randint(0, 9), chance.randint(0, 500), chance.randint(0, 2))
        asked = (chance.randint(0, 3), chance.randint(0, 900), chance.randint(0, 1))
        one, other = await memory.acquire(*asked, spare=spare), await real.acquire(*asked, spare=spare)
        assert type(one) is type(other)
        if isinstance(one, Granted) and isinstance(other, Granted):
            assert one.got == other.got
        elif isinstance(one, Denied) and isinstance(other, Denied):
            assert one.limit == other.limit
            assert one.retry_after_s == pytest.approx(other.retry_after_s, abs=0.01)
        for ours, theirs in ((one.requests, other.requests), (one.tokens, other.tokens)):
            assert ours is not None
            assert theirs is not None
            assert ours.left == theirs.left
            assert ours.full_in_s == pytest.approx(theirs.full_in_s, abs=0.01)


async def test_by_redis_own_clock(redis_url: SecretStr) -> None:
    store = RedisLimitStore(redis_url)
    replica = Replica(store, Team(requests_per_minute=1))

    assert isinstance(await replica.acquire(requests=1), Granted)
    refused = await replica.acquire(requests=1)
    assert isinstance(refused, Denied)
    assert refused.retry_after_s is not None
    assert 59 < refused.retry_after_s <= 61
    await store.close()


async def test_a_redis_that_is_not_there_is_told() -> None:
    store = RedisLimitStore(SecretStr("redis://:secret@127.0.0.1:1/0"))

    with pytest.raises(StoreUnavailableError) as raised:
        await Replica(store, Team()).acquire(requests=1)
    assert "secret" not in str(raised.value)
    await store.close()


def test_a_redis_address_that_is_none_is_told_without_it() -> None:
    with pytest.raises(SettingsError) as raised:
        RedisLimitStore(SecretStr("http://user:secret@host"))
    assert "secret" not in str(raised.value)
