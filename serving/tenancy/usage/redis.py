"""Usage store in Redis, for all replicas of all machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta

from pydantic import SecretStr

from serving.redis_connection import connect, disconnect, reaching
from serving.tenancy.usage.base import COUNTS, Counts, UsageKey, UsageRow

_TIMEOUT_S = 5.0
_CONNECTIONS = 4
_LOST = "The Redis that keeps usage cannot be reached now."


class RedisUsageStore:
    """UsageStore in Redis: a hash a day; its fields are JSON, ["team","model","effort","requests"].

    The URL may hold a password; it is in no message. Raises SettingsError for a URL that cannot be read.
    """

    def __init__(self, url: SecretStr, *, name: str = "usage", keep_days: int = 400) -> None:
        self._prefix = f"gpt-oss-serving:{name}:"
        self._keep_s = (keep_days + 1) * 86400
        # A retry would count twice what was counted and not confirmed.
        self._redis = connect(url, timeout_s=_TIMEOUT_S, connections=_CONNECTIONS, retries=0)

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        with reaching(_LOST):
            async with self._redis.pipeline(transaction=True) as pipe:
                for (day, *rest), counts in rows:
                    key = self._prefix + day
                    for name, value in zip(COUNTS, counts.values(), strict=True):
                        if value:
                            pipe.hincrby(key, json.dumps([*rest, name]), value)
                    pipe.expire(key, self._keep_s)
                await pipe.execute()

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        day, last = date.fromisoformat(first_day), date.fromisoformat(last_day)
        days = [(day + timedelta(number)).isoformat() for number in range((last - day).days + 1)]
        with reaching(_LOST):
            async with self._redis.pipeline(transaction=False) as pipe:
                for each in days:
                    pipe.hgetall(self._prefix + each)
                found = await pipe.execute()
        rows: dict[UsageKey, dict[str, int]] = {}
        for each, fields in zip(days, found, strict=True):
            for field, value in fields.items():
                team, model, effort, name = json.loads(field)
                rows.setdefault((each, team, model, effort), {})[name] = int(value)
        return [(key, Counts.from_columns(rows[key])) for key in sorted(rows)]

    async def forget(self, before_day: str) -> None:
        """See UsageStore. Does nothing: Redis expires days itself."""

    async def close(self) -> None:
        """See UsageStore."""
        await disconnect(self._redis)
