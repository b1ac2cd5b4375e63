"""Store in Redis 6.2 or newer, for deployments where state outlives the cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from serving.redis_connection import connect, disconnect, reaching
from serving.store.base import StoreLimits, check_size

_TIMEOUT_S = 2.0
_CONNECTIONS = 32

# Redis knows the ages of keys but not their sizes together, so these are kept beside the values: KEYS[1] has them by
# last use, KEYS[2] their sizes, KEYS[3] the sum. A script runs alone, which keeps the books right; a value that Redis
# itself has dropped stays in the books until its age has passed.
_BOOKS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function strike(key)
  local size = redis.call('HGET', KEYS[2], key)
  if size then
    redis.call('HDEL', KEYS[2], key)
    redis.call('DECRBY', KEYS[3], size)
  end
  redis.call('ZREM', KEYS[1], key)
end
"""
_GET = (
    _BOOKS
    + """
local values = {}
for place = 4, #KEYS do
  local value = redis.call('GETEX', KEYS[place], 'PX', ARGV[1])
  if value then redis.call('ZADD', KEYS[1], 'XX', now, KEYS[place]) end
  values[#values + 1] = value
end
return values
"""
)
_PUT = (
    _BOOKS
    + """
local ttl, most = tonumber(ARGV[2]), tonumber(ARGV[3])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ttl, 'LIMIT', 0, 1000)) do strike(key) end
strike(KEYS[4])
redis.call('SET', KEYS[4], ARGV[1], 'PX', ttl)
redis.call('ZADD', KEYS[1], now, KEYS[4])
redis.call('HSET', KEYS[2], KEYS[4], #ARGV[1])
local total = redis.call('INCRBY', KEYS[3], #ARGV[1])
while total > most do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  if not oldest or oldest == KEYS[4] then break end
  redis.call('DEL', oldest)
  strike(oldest)
  total = tonumber(redis.call('GET', KEYS[3]))
end
"""
)
# ARGV[4] is "" where there must be no value, else the SHA-1 of the one that must be there.
_REPLACE = (
    """
local before = redis.call('GET', KEYS[4])
if (before and redis.sha1hex(before) or '') ~= ARGV[4] then return 0 end
"""
    + _PUT
    + "return 1\n"
)
_DELETE = (
    _BOOKS
    + """
strike(KEYS[4])
return redis.call('DEL', KEYS[4])
"""
)
_CLAIM = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
_AWAY = "The server's store cannot be reached now. What needs nothing stored goes on working."


class RedisStore:
    """See Store. `name` sets this store's keys apart from all others in the same Redis.

    The URL may hold a password; it is in no message and no repr. Raises SettingsError for a URL that cannot be read;
    connects at the first call. All keys share a hash tag, so that they lie together in a Redis Cluster.
    """

    def __init__(self, url: SecretStr, limits: StoreLimits, *, name: str) -> None:
        self._limits = limits
        self._prefix = f"{{gpt-oss-serving:{name}}}:"
        self._books = [self._prefix + book for book in ("uses", "sizes", "bytes")]
        self._redis = connect(url, timeout_s=_TIMEOUT_S, connections=_CONNECTIONS)
        self._get = self._redis.register_script(_GET)
        self._put = self._redis.register_script(_PUT)
        self._delete = self._redis.register_script(_DELETE)
        self._replace = self._redis.register_script(_REPLACE)
        self._claim = self._redis.register_script(_CLAIM)
        self._release = self._redis.register_script(_RELEASE)

    async def get(self, owner: str, key: str) -> bytes | None:
        """See Store."""
        return (await self.get_many(owner, [key]))[0]

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        if not keys:
            return []
        found = await self._run(self._get, owner, keys, self._ttl_ms())
        # Lua ends a list at its first nil; false stands for one and comes as None.
        return [value if isinstance(value, bytes) else None for value in found]

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """See Store."""
        check_size(value, self._limits)
        await self._run(self._put, owner, [key], value, self._ttl_ms(), self._limits.max_bytes)

    async def replace(self, owner: str, key: str, before: bytes | None, value: bytes) -> bool:
        """See Store."""
        check_size(value, self._limits)
        # A digest to compare by, which keeps no secret.
        digest = "" if before is None else hashlib.sha1(before, usedforsecurity=False).hexdigest()
        arguments = value, self._ttl_ms(), self._limits.max_bytes, digest.encode()
        return bool(await self._run(self._replace, owner, [key], *arguments))

    async def delete(self, owner: str, key: str) -> bool:
        """See Store."""
        return bool(await self._run(self._delete, owner, [key]))

    async def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See Store."""
        with reaching(_AWAY):
            return bool(await self._claim(keys=[self._of_claim(name)], args=[holder, max(1, int(ttl_s * 1000))]))

    async def release(self, name: str, holder: str) -> None:
        """See Store."""
        with reaching(_AWAY):
            await self._release(keys=[self._of_claim(name)], args=[holder])

    async def close(self) -> None:
        """See Store."""
        await disconnect(self._redis)

    def _of_claim(self, name: str) -> str:
        # No value's key: a quoted owner has no slash.
        return f"{self._prefix}claim/{name}"

    def _ttl_ms(self) -> int:
        return max(1, int(self._limits.ttl_s * 1000))

    async def _run(self, script: Any, owner: str, keys: Sequence[str], *arguments: bytes | int) -> Any:
        # Quoted, an owner holds no colon, so no owner's keys can be another's.
        places = [f"{self._prefix}{quote(owner, safe='')}:{key}" for key in keys]
        with reaching(_AWAY):
            return await script(keys=[*self._books, *places], args=arguments)
