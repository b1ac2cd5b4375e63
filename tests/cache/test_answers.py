from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from serving.cache.answers import AnswerCache
from serving.engine.base import Sampling
from serving.errors import StoreUnavailableError
from serving.generation.types import ChatEvent
from serving.settings.storage import CacheSettings
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.cache.conftest import Clock

Play = Callable[[Sequence[ChatEvent]], AsyncGenerator[ChatEvent]]
Answer = Callable[..., list[ChatEvent]]
LIMITS = StoreLimits(ttl_s=60, max_bytes=1_000_000, max_item_bytes=10_000)


class LostStore(MemoryStore):
    """Counts what it is asked, and cannot be reached while it is lost."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(LIMITS, clock=clock)
        self.lost = False
        self.asked = 0

    async def get(self, owner: str, key: str) -> bytes | None:
        self._look()
        return await super().get(owner, key)

    async def put(self, owner: str, key: str, value: bytes) -> None:
        self._look()
        await super().put(owner, key, value)

    def _look(self) -> None:
        self.asked += 1
        if self.lost:
            raise StoreUnavailableError("away")


class Cached:
    """A cache whose clocks and store the test holds."""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        self.clock = clock
        self.store = LostStore(clock)
        self.failures: list[str] = []
        self.cache = AnswerCache(
            CacheSettings(backend="memory", ttl_s=60, **settings),
            self.store,
            clock=clock,
            monotonic=clock,
            on_failure=self.failures.append,
        )

    async def make(self, events: AsyncGenerator[ChatEvent], owner: str = "a", key: str = "k") -> list[ChatEvent]:
        reader = self.cache.begin(owner, key, events, streaming=True, on_over=lambda: None)
        made = [event async for event in reader.events()]
        await reader.leave()
        await asyncio.gather(*self.cache._tasks)  # it is kept after it was given
        return made


@pytest.fixture
def cached(clock: Clock) -> Cached:
    return Cached(clock)


async def test_what_was_made_is_found_by_its_owner_alone(cached: Cached, answer: Answer, playing: Play) -> None:
    await cached.make(playing(answer("a")))
    assert await cached.cache.find("a", "k") is not None
    assert await cached.cache.find("b", "k") is None
    assert await cached.cache.find("a", "l") is None
    assert cached.failures == []


async def test_an_answer_ends_with_its_time_however_often_it_is_read(
    cached: Cached, answer: Answer, playing: Play
) -> None:
    await cached.make(playing(answer("a")))
    for _ in range(5):
        cached.clock.now += 11
        assert await cached.cache.find("a", "k") is not None
    cached.clock.now += 11
    assert await cached.cache.find("a", "k") is None


async def test_those_under_way_are_joined_by_their_owner_alone(cached: Cached, answer: Answer, playing: Play) -> None:
    cache = cached.cache
    reader = cache.begin("a", "k", playing(answer("a")), streaming=True, on_over=lambda: None)
    assert cache.join("b", "k", streaming=True) is None
    assert cache.join("a", "l", streaming=True) is None
    other = cache.join("a", "k", streaming=False)
    assert other is not None
    for each in (reader, other):
        await each.leave()
    assert cache.join("a", "k", streaming=True) is None


async def test_who_watches_joins_none_that_comes_at_once_until_it_is_there(
    cached: Cached, answer: Answer, playing: Play
) -> None:
    cache = cached.cache
    whole = cache.begin("a", "k", playing(answer("a")), streaming=False, on_over=lambda: None)
    assert cache.join("a", "k", streaming=True) is None
    other = cache.join("a", "k", streaming=False)
    assert other is not None
    watched = cache.begin("a", "k", playing(answer("a")), streaming=True, on_over=lambda: None)
    third = cache.join("a", "k", streaming=True)
    assert third is not None
    for reader in (whole, other, watched, third):
        await reader.leave()
    await cache.close()


async def test_a_store_that_is_lost_is_left_alone_for_a_while(
    cached: Cached, answer: Answer, playing: Play, caplog: pytest.LogCaptureFixture
) -> None:
    await cached.make(playing(answer("a")))
    cached.store.lost = True
    asked = cached.store.asked
    with caplog.at_level(logging.ERROR):
        for _ in range(10):
            assert await cached.cache.find("a", "k") is None
            await cached.make(playing(answer("a")))
    assert cached.store.asked == asked + 1
    assert cached.failures == ["read"]
    assert len(caplog.records) == 1
    cached.store.lost = False
    cached.clock.now += 6
    assert await cached.cache.find("a", "k") is not None


async def test_an_answer_that_the_store_cannot_take_is_given_all_the_same(
    cached: Cached, answer: Answer, playing: Play
) -> None:
    cached.store.lost = True
    assert await cached.make(playing(answer("a"))) == answer("a")
    assert cached.failures == ["write"]


async def test_an_answer_that_is_too_large_is_counted_once(clock: Clock, answer: Answer, playing: Play) -> None:
    while_made, when_put = Cached(clock, max_item_bytes=1024), Cached(clock)
    await while_made.make(playing(answer("word " * 1000)))
    await when_put.make(playing(answer("x" * 20_000)))
    assert while_made.failures == when_put.failures == ["too_large"]


async def test_what_cannot_be_read_is_a_miss(cached: Cached, caplog: pytest.LogCaptureFixture) -> None:
    await cached.store.put("a", "k", b"\x93no answer")
    assert await cached.cache.find("a", "k") is None
    assert cached.failures == ["read"]
    assert "cannot be read" in caplog.text


async def test_closing_stops_what_is_being_made(cached: Cached) -> None:
    stopped = asyncio.Event()

    async def endless() -> AsyncGenerator[ChatEvent]:
        try:
            await asyncio.Event().wait()
            yield  # type: ignore[misc]  # never reached; makes it a generator
        finally:
            stopped.set()

    cached.cache.begin("a", "k", endless(), streaming=True, on_over=lambda: None)
    await asyncio.sleep(0)
    await cached.cache.close()
    assert stopped.is_set()
    await cached.cache.close()


@pytest.mark.parametrize(
    ("settings", "sampling", "takes"),
    [
        ({}, {"temperature": 0.0}, True),
        ({}, {"seed": 0}, True),
        ({}, {}, False),
        ({"greedy": False}, {"temperature": 0.0}, False),
        ({"greedy": False}, {"temperature": 0.0, "seed": 0}, True),
        ({"seeded": False}, {"seed": 0}, False),
    ],
)
def test_settings_say_which_requests_use_it(
    clock: Clock, settings: dict[str, Any], sampling: dict[str, Any], takes: bool
) -> None:
    assert Cached(clock, **settings).cache.takes(Sampling(max_tokens=1, **sampling)) is takes
