from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from serving.errors import StoreUnavailableError
from serving.harmony.channels import TokenCounts
from serving.tenancy.usage.base import COUNTS, KEY, Counts, UsageStore
from serving.tenancy.usage.memory import MemoryUsageStore
from serving.tenancy.usage.redis import RedisUsageStore
from serving.tenancy.usage.sqlite import SqliteUsageStore

RESEARCH = ("2025-10-09", "research", "demo", "low")
SALES = ("2025-10-10", 'sa"les|x', "openai/gpt-oss-20b", "high")


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: UsageStore
    match request.param:
        case "memory":
            made = MemoryUsageStore()
        case "sqlite":
            made = SqliteUsageStore(tmp_path / "new folder" / "usage.sqlite")
        case _:
            made = RedisUsageStore(request.getfixturevalue("redis_url"))
    yield made
    await made.close()


async def test_what_is_added_is_summed_by_key(store: UsageStore) -> None:
    await store.add(
        [
            (RESEARCH, Counts(1, 0, 10, 5, 20, TokenCounts(analysis=8, commentary=2, final=9))),
            (SALES, Counts(2, 1, 1, 0, 1, TokenCounts(analysis=0, commentary=0, final=1))),
        ]
    )
    await store.add([(RESEARCH, Counts(1, 1, 1, 1, 1, TokenCounts(analysis=1, commentary=1, final=1)))])

    assert await store.read("2025-10-01", "2025-10-31") == [
        (RESEARCH, Counts(2, 1, 11, 6, 21, TokenCounts(analysis=9, commentary=3, final=10))),
        (SALES, Counts(2, 1, 1, 0, 1, TokenCounts(analysis=0, commentary=0, final=1))),
    ]


async def test_days_outside_are_left_out(store: UsageStore) -> None:
    await store.add([(RESEARCH, Counts(1)), (SALES, Counts(1))])

    assert [key for key, _ in await store.read("2025-10-10", "2025-10-10")] == [SALES]
    assert not await store.read("2025-10-11", "2025-10-12")


async def test_adding_from_many_sides_loses_nothing(store: UsageStore) -> None:
    await asyncio.gather(*(store.add([(RESEARCH, Counts(1, prompt_tokens=3))]) for _ in range(50)))

    assert await store.read("2025-10-09", "2025-10-09") == [(RESEARCH, Counts(50, prompt_tokens=150))]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_old_days_are_forgotten(kind: str, tmp_path: Path) -> None:
    store = MemoryUsageStore() if kind == "memory" else SqliteUsageStore(tmp_path / "usage.sqlite")
    await store.add([(RESEARCH, Counts(1)), (SALES, Counts(1))])
    await store.forget("2025-10-10")

    assert [key for key, _ in await store.read("2025-01-01", "2025-12-31")] == [SALES]


async def test_another_process_reads_what_one_has_written(tmp_path: Path) -> None:
    await SqliteUsageStore(tmp_path / "usage.sqlite").add([(RESEARCH, Counts(1))])

    assert await SqliteUsageStore(tmp_path / "usage.sqlite").read("2025-10-09", "2025-10-09")


async def test_a_file_of_an_older_version_gets_the_counts_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    columns = ", ".join(
        [*(f"{name} TEXT NOT NULL" for name in KEY), *(f"{name} INTEGER NOT NULL" for name in COUNTS[:3])]
    )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE usage ({columns}, PRIMARY KEY ({', '.join(KEY)})) WITHOUT ROWID")
        connection.execute("INSERT INTO usage VALUES (?, ?, ?, ?, 1, 0, 10)", RESEARCH)

    stores = [SqliteUsageStore(path) for _ in range(4)]
    await asyncio.gather(*(store.add([(RESEARCH, Counts(1, replayed_tokens=7))]) for store in stores))

    assert await stores[0].read("2025-10-09", "2025-10-09") == [
        (RESEARCH, Counts(5, prompt_tokens=10, replayed_tokens=28))
    ]


async def test_many_that_make_the_file_at_the_same_time_all_write_to_it(tmp_path: Path) -> None:
    for attempt in range(40):
        stores = [SqliteUsageStore(tmp_path / f"{attempt}.sqlite") for _ in range(8)]
        await asyncio.gather(*(store.add([(RESEARCH, Counts(1))]) for store in stores))

        assert await stores[0].read("2025-10-09", "2025-10-09") == [(RESEARCH, Counts(8))]


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    path.write_text("this is a text " * 100)

    with pytest.raises(StoreUnavailableError, match=r"usage\.sqlite.*not a database"):
        await SqliteUsageStore(path).add([(RESEARCH, Counts(1))])


async def test_a_redis_that_is_not_there_is_told() -> None:
    store = RedisUsageStore(SecretStr("redis://:secret@127.0.0.1:1/0"))
    with pytest.raises(StoreUnavailableError) as raised:
        await store.add([(RESEARCH, Counts(1))])

    assert "secret" not in str(raised.value)
    await store.close()
