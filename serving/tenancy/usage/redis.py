"""Usage in Redis, for all replicas of all machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.errors import SettingsError, StoreUnavailableError
from serving.tenancy.usage.base import COUNTS, Counts, UsageKey, UsageRow

_TIMEOUT_S = 5.0


class RedisUsageStore:
    """See UsageStore. A hash a day; its fields are JSON, ["team","model","effort","requests"].

    The URL may hold a password; it is in no message. Raises SettingsError for a URL that cannot be read.
    """

    def __init__(self, url: SecretStr, *, name: str = "usage", keep_days: int = 400) -> None:
        self._prefix = f"gpt-oss-serving:{name}:"
        self._keep_s = (keep_days + 1) * 86400
        try:
            pool = BlockingConnectionPool.from_url(
                url.get_secret_value(),
                max_connections=4,
                timeout=_TIMEOUT_S,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                # None: what was counted and not confirmed would be counted twice.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            # `from None`: the cause would quote the address.
            raise SettingsError([("redis.url", f"cannot be read as an address: {type(error).__name__}")]) from None
        self._redis = Redis(connection_pool=pool)

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for (day, *rest), counts in rows:
                    key = self._prefix + day
                    for name, value in zip(COUNTS, counts.values(), strict=True):
                        if value:
                            pipe.hincrby(key, json.dumps([*rest, name]), value)
                    pipe.expire(key, self._keep_s)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise _unavailable() from error

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        day, last = date.fromisoformat(first_day), date.fromisoformat(last_day)
        days = [(day + timedelta(number)).isoformat() for number in range((last - day).days + 1)]
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for each in days:
                    pipe.hgetall(self._prefix + each)
                found = await pipe.execute()
        except (RedisError, OSError) as error:
            raise _unavailable() from error
        counts: dict[UsageKey, Counts] = {}
        for each, fields in zip(days, found, strict=True):
            for field, value in fields.items():
                team, model, effort, name = json.loads(field)
                setattr(counts.setdefault((each, team, model, effort), Counts()), name, int(value))
        return sorted(counts.items(), key=lambda row: row[0])

    async def forget(self, before_day: str) -> None:
        """See UsageStore. Redis forgets by itself."""

    async def close(self) -> None:
        """See UsageStore."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("The Redis that keeps usage cannot be reached now.", retry_after_s=2.0)
