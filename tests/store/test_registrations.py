"""What is registered stays, wherever it is kept."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.errors import StoreUnavailableError
from serving.store.redis_registrations import RedisRegistrations
from serving.store.registrations import FileRegistrations, MemoryRegistrations, Registrations


@pytest.fixture(params=["memory", "file", "redis"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registrations]:
    stores: dict[str, Any] = {
        "memory": MemoryRegistrations,
        "file": lambda: FileRegistrations(tmp_path / "new" / "backends.json"),
        "redis": lambda: RedisRegistrations(request.getfixturevalue("redis_url"), "backends"),
    }
    store: Registrations = stores[request.param]()
    yield store
    await store.close()


async def test_what_is_put_is_read_until_it_is_removed(kept: Registrations) -> None:
    assert await kept.read() == {}
    await kept.put("a", '{"url": "http://a"}')
    await kept.put("b", '{"type": "ollama"}')
    await kept.put("a", '{"url": "http://b"}')

    assert await kept.read() == {"a": '{"url": "http://b"}', "b": '{"type": "ollama"}'}
    assert await kept.remove("a")
    assert not await kept.remove("a")
    assert list(await kept.read()) == ["b"]


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    await asyncio.gather(*(FileRegistrations(path).put(f"b{number}", "{}") for number in range(20)))

    assert len(await FileRegistrations(path).read()) == 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_is_broken_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    path.write_text("{")
    with pytest.raises(StoreUnavailableError, match=r"backends\.json"):
        await FileRegistrations(path).read()
