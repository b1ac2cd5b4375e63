"""An engine's adapters: loaded once, never put away in use, never half loaded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from serving.engine.adapters.loaded import LoadedAdapters
from serving.engine.base import Adapter
from serving.errors import AdapterUnavailableError, CheckpointError, OverloadedError

A, B, C = (Adapter(name, f"/{name}") for name in "abc")


class Engine:
    """What it holds, by name; loading waits for `may_load`."""

    def __init__(self) -> None:
        self.holds: list[str] = []
        self.loads = 0
        self.broken = False
        self.may_load = asyncio.Event()
        self.may_load.set()

    async def load(self, adapter: Adapter) -> str:
        await self.may_load.wait()
        self.loads += 1
        if self.broken:
            raise CheckpointError("its files are gone")
        self.holds.append(adapter.name)
        return adapter.name

    async def remove(self, handle: str) -> None:
        self.holds.remove(handle)


def loaded(capacity: int) -> tuple[LoadedAdapters[str], Engine]:
    engine = Engine()
    return LoadedAdapters(capacity, engine.load, engine.remove), engine


async def test_many_who_come_at_once_load_it_once() -> None:
    adapters, engine = loaded(2)

    async def use() -> str:
        async with adapters.use(A) as handle:
            return handle

    assert set(await asyncio.gather(*(use() for _ in range(20)))) == {"a"}
    assert engine.loads == 1


async def test_the_longest_unused_makes_room() -> None:
    adapters, engine = loaded(2)
    for adapter in (A, B, A, C):
        async with adapters.use(adapter):
            pass
    assert engine.holds == ["a", "c"]
    assert adapters.adapters == [A, C]


async def test_what_is_in_use_stays() -> None:
    adapters, engine = loaded(2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(adapters.use(A))
        await stack.enter_async_context(adapters.use(B))
        with pytest.raises(OverloadedError, match="all 2 that fit are in use"):
            await adapters.load(C)
        await adapters.unload(A)
        assert engine.holds == ["a", "b"]
        # It is on its way out, and still whoever asks for it gets it.
        async with adapters.use(A) as handle:
            assert handle == "a"
    await adapters.load(C)
    assert engine.holds == ["b", "c"]


async def test_what_is_idle_goes_at_once_and_comes_back() -> None:
    adapters, engine = loaded(2)
    await adapters.load(A)
    await adapters.unload(A)
    await adapters.unload(B)
    assert engine.holds == []
    async with adapters.use(A):
        assert engine.holds == ["a"]


async def test_loading_again_what_leaves_keeps_it() -> None:
    adapters, engine = loaded(2)
    async with adapters.use(A):
        await adapters.unload(A)
        await adapters.load(A)
    await adapters.load(B)
    assert engine.holds == ["a", "b"]


async def test_a_client_that_leaves_does_not_stop_the_loading() -> None:
    adapters, engine = loaded(1)
    engine.may_load.clear()

    async def use(adapter: Adapter) -> None:
        async with adapters.use(adapter):
            pass

    leaving, staying = asyncio.create_task(use(A)), asyncio.create_task(use(A))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    engine.may_load.set()
    await staying
    assert (engine.loads, engine.holds) == (1, ["a"])
    # And the place that it took can be had.
    await use(B)
    assert engine.holds == ["b"]


async def test_a_failure_is_one_requests_and_may_pass() -> None:
    adapters, engine = loaded(1)
    engine.broken = True
    with pytest.raises(AdapterUnavailableError, match="'a' cannot be loaded"):
        async with adapters.use(A):
            pass
    with pytest.raises(CheckpointError):
        await adapters.load(A)
    engine.broken = False
    async with adapters.use(A):
        assert engine.holds == ["a"]


async def test_closing_ends_what_is_under_way() -> None:
    adapters, engine = loaded(1)
    engine.may_load.clear()
    loading = asyncio.create_task(adapters.load(A))
    await asyncio.sleep(0)
    await adapters.close()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert engine.loads == 0
