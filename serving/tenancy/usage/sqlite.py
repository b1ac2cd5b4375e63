"""Usage store in a SQLite file, for all ingress replicas of one machine."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from serving.errors import StoreUnavailableError
from serving.tenancy.usage.base import COUNTS, KEY, Counts, UsageRow

_T = TypeVar("_T")

_BUSY_S = 5.0
_SWITCH_AGAIN_S = 0.01
_COUNT = "INTEGER NOT NULL DEFAULT 0"
_COLUMNS = ", ".join((*KEY, *COUNTS))
_TABLE = (
    "CREATE TABLE IF NOT EXISTS usage ("
    + ", ".join([*(f"{name} TEXT NOT NULL" for name in KEY), *(f"{name} {_COUNT}" for name in COUNTS)])
    + f", PRIMARY KEY ({', '.join(KEY)})) WITHOUT ROWID"
)
_ADD = (
    f"INSERT INTO usage ({_COLUMNS}) VALUES ({', '.join('?' * (len(KEY) + len(COUNTS)))}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
)


class SqliteUsageStore:
    """UsageStore in SQLite. The first call makes the file; each call is one transaction in a thread.

    Write-ahead logging lets `serving usage` read while replicas write, and a killed process loses nothing that was
    added. Not for network file systems, whose locks SQLite cannot rely on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        values = [(*key, *counts.values()) for key, counts in rows]
        await self._run(lambda connection: connection.executemany(_ADD, values))

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        query = f"SELECT {_COLUMNS} FROM usage WHERE day BETWEEN ? AND ? ORDER BY {', '.join(KEY)}"
        found = await self._run(lambda connection: connection.execute(query, (first_day, last_day)).fetchall())
        return [
            ((day, team, model, effort), Counts.from_columns(dict(zip(COUNTS, counts, strict=True))))
            for day, team, model, effort, *counts in found
        ]

    async def forget(self, before_day: str) -> None:
        """See UsageStore."""
        await self._run(lambda connection: connection.execute("DELETE FROM usage WHERE day < ?", (before_day,)))

    async def close(self) -> None:
        """See UsageStore. Nothing is open between calls."""

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        async with self._lock:
            return await asyncio.to_thread(self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S)) as connection:
                _write_ahead(connection)
                connection.execute(_TABLE)
                _add_columns(connection)
                with connection:
                    return work(connection)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailableError(f"The file of usage, {self._path}, cannot be used: {error}") from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging, again and again while another process is just doing the same."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_SWITCH_AGAIN_S)


def _add_columns(connection: sqlite3.Connection) -> None:
    """Add the columns that a file of an older version lacks."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(usage)")}
    if there.issuperset(COUNTS):
        return
    with connection:
        # Others may be about to do the same.
        connection.execute("BEGIN IMMEDIATE")
        there = {row[1] for row in connection.execute("PRAGMA table_info(usage)")}
        for name in COUNTS:
            if name not in there:
                connection.execute(f"ALTER TABLE usage ADD COLUMN {name} {_COUNT}")
