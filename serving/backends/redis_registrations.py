"""Registered backends in Redis: one hash, a field for each."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from serving.errors import SettingsError, StoreUnavailableError

_KEY = "{gpt-oss-serving:backends}:registered"
_TIMEOUT_S = 2.0


class RedisRegistrations:
    """See Registrations. They never expire. The URL may hold a password; it is in no message and no repr."""

    def __init__(self, url: SecretStr) -> None:
        try:
            self._redis = Redis.from_url(
                url.get_secret_value(), socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
            )
        except ValueError as error:
            # `from None`: the cause would quote the address.
            raise SettingsError([("redis.url", f"cannot be read as an address: {type(error).__name__}")]) from None

    async def read(self) -> Mapping[str, str]:
        """See Registrations."""
        kept: dict[bytes, bytes] = await _reached(self._redis.hgetall(_KEY))
        return {name.decode(): value.decode() for name, value in kept.items()}

    async def put(self, name: str, value: str) -> None:
        """See Registrations."""
        await _reached(self._redis.hset(_KEY, name, value))

    async def remove(self, name: str) -> bool:
        """See Registrations."""
        return bool(await _reached(self._redis.hdel(_KEY, name)))

    async def close(self) -> None:
        """See Registrations."""
        await self._redis.aclose()


async def _reached(answer: Awaitable[Any] | Any) -> Any:
    try:
        return await answer
    except (RedisError, OSError) as error:
        raise StoreUnavailableError("The Redis that keeps registered backends cannot be reached.") from error
