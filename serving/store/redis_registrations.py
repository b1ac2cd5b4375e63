"""Registrations in Redis: one hash for each kind of them, a field for each one."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from pydantic import SecretStr

from serving.redis_connection import connect, disconnect, reaching

_TIMEOUT_S = 2.0
_CONNECTIONS = 4


class RedisRegistrations:
    """See Registrations. They never expire. The URL may hold a password; it is in no message and no repr.

    `kind` sets these registrations apart from all others in the same Redis.
    """

    def __init__(self, url: SecretStr, kind: str) -> None:
        self._key = f"{{gpt-oss-serving:{kind}}}:registered"
        self._redis = connect(url, timeout_s=_TIMEOUT_S, connections=_CONNECTIONS)

    async def read(self) -> Mapping[str, str]:
        """See Registrations."""
        kept: dict[bytes, bytes] = await _reached(self._redis.hgetall(self._key))
        return {name.decode(): value.decode() for name, value in kept.items()}

    async def put(self, name: str, value: str) -> None:
        """See Registrations."""
        await _reached(self._redis.hset(self._key, name, value))

    async def remove(self, name: str) -> bool:
        """See Registrations."""
        return bool(await _reached(self._redis.hdel(self._key, name)))

    async def close(self) -> None:
        """See Registrations."""
        await disconnect(self._redis)


async def _reached(answer: Awaitable[Any] | Any) -> Any:
    with reaching("The Redis that keeps what is registered cannot be reached."):
        return await answer
