from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore

keys = st.sampled_from("abcd")
steps = st.lists(
    st.tuples(st.just("put"), keys, st.integers(0, 700))
    | st.tuples(st.sampled_from(["get", "delete"]), keys, st.just(0))
    | st.tuples(st.just("wait"), st.just(""), st.integers(0, 15)),
    max_size=60,
)


@given(steps)
async def test_it_holds_no_more_than_its_limits_and_nothing_for_longer(steps: list[tuple[str, str, int]]) -> None:
    now = 0.0
    store = MemoryStore(StoreLimits(ttl_s=10, max_bytes=2000, max_item_bytes=700), clock=lambda: now)
    used: dict[str, float] = {}
    for step, key, number in steps:
        match step:
            case "put":
                await store.put("o", key, bytes(number))
                used[key] = now
            case "get":
                if (found := await store.get("o", key)) is not None:
                    assert now - used[key] < 10
                    used[key] = now
                    assert len(found) <= 700
            case "delete":
                await store.delete("o", key)
                assert await store.get("o", key) is None
            case "wait":
                now += number
        assert store.size <= 2000
    now += 10
    assert [await store.get("o", key) for key in "abcd"] == [None] * 4
    assert store.size == 0
