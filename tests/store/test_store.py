"""What every store does, whatever it keeps things in."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from serving.errors import ItemTooLargeError
from serving.store.base import StoreLimits

if TYPE_CHECKING:
    from tests.store.conftest import MakeStore

WIDE = StoreLimits(ttl_s=60, max_bytes=1_000_000, max_item_bytes=100_000)


async def test_what_was_put_is_read_replaced_and_deleted(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    assert await store.get("a", "k") is None
    await store.put("a", "k", b"\x00\xff one")
    await store.put("a", "k", b"two")
    assert await store.get("a", "k") == b"two"
    assert await store.delete("a", "k")
    assert not await store.delete("a", "k")
    assert await store.get("a", "k") is None


async def test_a_value_is_replaced_if_it_is_still_the_one_that_was_read(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    assert await store.replace("a", "k", None, b"one")
    assert not await store.replace("a", "k", None, b"other")
    assert not await store.replace("a", "k", b"another", b"other")
    assert await store.replace("a", "k", b"one", b"two \x00")
    assert await store.get("a", "k") == b"two \x00"
    assert not await store.replace("b", "k", b"two \x00", b"three")
    with pytest.raises(ItemTooLargeError):
        await store.replace("a", "k", b"two \x00", b"x" * 100_001)
    assert await store.get("a", "k") == b"two \x00"


async def test_a_claim_is_of_one_holder_until_its_time_is_over_or_it_is_released(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    assert await store.claim("batch", "one", 60)
    assert not await store.claim("batch", "two", 60)
    assert await store.claim("batch", "one", 60)  # renewed
    assert await store.claim("another batch", "two", 60)

    await store.release("batch", "two")  # which has none
    assert not await store.claim("batch", "two", 60)
    await store.release("batch", "one")
    assert await store.claim("batch", "two", 0.05)

    await asyncio.sleep(0.1)
    assert await store.claim("batch", "one", 60)


async def test_a_claim_is_no_value(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    await store.put("claim", "batch", b"value")
    assert await store.claim("batch", "one", 60)
    assert await store.get("claim", "batch") == b"value"
    assert await store.get("", "claim:batch") is None


async def test_many_are_read_at_once_and_missing_ones_keep_their_place(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    await store.put("a", "1", b"one")
    await store.put("a", "3", b"")
    assert await store.get_many("a", ["0", "1", "2", "3", "1"]) == [None, b"one", None, b"", b"one"]
    assert await store.get_many("a", []) == []


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(("a", "k"), ("b", "k")), (("a:b", "c"), ("a", "b:c")), (("", "k"), ("*", "k")), (("é/ü", "k"), ("é", "ü:k"))],
)
async def test_owners_are_kept_apart(make_store: MakeStore, mine: tuple[str, str], theirs: tuple[str, str]) -> None:
    store = make_store(WIDE)
    await store.put(*mine, b"mine")
    assert await store.get(*theirs) is None
    assert not await store.delete(*theirs)
    assert await store.get(*mine) == b"mine"


async def test_an_item_is_forgotten_when_its_time_is_over(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=0.05, max_bytes=1000, max_item_bytes=1000))
    await store.put("a", "k", b"v")
    await asyncio.sleep(0.1)
    assert await store.get("a", "k") is None


async def test_being_read_keeps_an_item(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=1, max_bytes=1000, max_item_bytes=1000))
    await store.put("a", "k", b"v")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert await store.get("a", "k") == b"v"
        await asyncio.sleep(0.02)


async def test_beyond_its_size_a_store_forgets_what_was_not_used_the_longest(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=60, max_bytes=10_000, max_item_bytes=5000))
    for key in ("1", "2", "3"):
        await store.put("a", key, bytes(3000))
        await asyncio.sleep(0.002)  # Redis reckons in milliseconds
    await store.get("a", "1")
    await store.put("b", "4", bytes(2000))
    kept = [await store.get("a", "1"), await store.get("a", "2"), await store.get("a", "3"), await store.get("b", "4")]
    assert [value and len(value) for value in kept] == [3000, None, 3000, 2000]


async def test_what_is_deleted_replaced_or_expired_takes_no_room(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=0.2, max_bytes=10_000, max_item_bytes=5000))
    await store.put("a", "kept", bytes(4000))
    for _ in range(50):
        await store.put("a", "again", bytes(4000))
    await store.delete("a", "again")
    await store.put("a", "other", bytes(4000))
    assert await store.get("a", "kept") is not None
    await asyncio.sleep(0.3)
    await store.put("a", "1", bytes(4500))
    await store.put("a", "2", bytes(4500))
    assert await store.get("a", "1") is not None


async def test_an_item_too_large_is_refused_and_what_was_there_stays(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=60, max_bytes=10_000, max_item_bytes=100))
    await store.put("a", "k", bytes(100))
    with pytest.raises(ItemTooLargeError, match=r"101 bytes.*100"):
        await store.put("a", "k", bytes(101))
    assert await store.get("a", "k") == bytes(100)


async def test_many_at_once_keep_the_books_right(make_store: MakeStore) -> None:
    store = make_store(StoreLimits(ttl_s=60, max_bytes=50_000, max_item_bytes=1000))
    await asyncio.gather(*(store.put("a", str(i % 20), bytes(1000)) for i in range(300)))
    assert await store.get_many("a", [str(i) for i in range(20)]) == [bytes(1000)] * 20


async def test_a_closed_store_may_be_closed_again(make_store: MakeStore) -> None:
    store = make_store(WIDE)
    await store.put("a", "k", b"v")
    await store.close()
    await store.close()
