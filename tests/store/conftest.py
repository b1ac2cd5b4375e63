"""Every store there is, behind one fixture."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import SecretStr

from serving.store.base import Store, StoreLimits
from serving.store.memory import MemoryStore
from serving.store.redis import RedisStore

MakeStore = Callable[[StoreLimits], Store]


@pytest.fixture(params=["memory", "redis"])
async def make_store(request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Makes a store of each kind with the limits given, empty, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def kept(store: Store) -> Store:
            stack.push_async_callback(store.close)
            return store

        if request.param == "memory":
            yield lambda limits: kept(MemoryStore(limits))
        else:
            url: SecretStr = request.getfixturevalue("redis_url")
            yield lambda limits: kept(RedisStore(url, limits, name="test"))
