"""Store in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cachetools import TTLCache

from serving.store.base import StoreLimits, check_size

# What an item takes beside its value: the key, the entry and their places in the dictionary.
_OVERHEAD_BYTES = 300


class MemoryStore:
    """Store in memory (see Store): forgets an item `ttl_s` after its last use, and the least recently used when full.

    Safe to call from one event loop; nothing in it waits. `clock` gives seconds and never goes back.
    """

    def __init__(self, limits: StoreLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._claims: dict[str, tuple[str, float]] = {}
        self._items: TTLCache[tuple[str, str], bytes] = TTLCache(
            limits.max_bytes,
            limits.ttl_s,
            timer=clock,
            # The store always has room for one item: a cache refuses what is larger than itself.
            getsizeof=lambda value: min(len(value) + _OVERHEAD_BYTES, limits.max_bytes),
        )

    @property
    def size(self) -> int:
        """Size of all items, in bytes; at most `limits.max_bytes`."""
        self._items.expire()
        return int(self._items.currsize)

    async def get(self, owner: str, key: str) -> bytes | None:
        """See Store."""
        value = self._items.get((owner, key))
        if value is not None:
            self._items[owner, key] = value  # which begins its time anew
        return value

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        return [await self.get(owner, key) for key in keys]

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """See Store."""
        check_size(value, self.limits)
        self._items[owner, key] = value

    async def replace(self, owner: str, key: str, before: bytes | None, value: bytes) -> bool:
        """See Store."""
        if self._items.get((owner, key)) != before:
            return False
        await self.put(owner, key, value)
        return True

    async def delete(self, owner: str, key: str) -> bool:
        """See Store."""
        return self._items.pop((owner, key), None) is not None

    async def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See Store."""
        now = self._clock()
        for ended in [each for each, (_, until) in self._claims.items() if until <= now]:
            del self._claims[ended]
        if name in self._claims and self._claims[name][0] != holder:
            return False
        self._claims[name] = holder, now + ttl_s
        return True

    async def release(self, name: str, holder: str) -> None:
        """See Store."""
        if name in self._claims and self._claims[name][0] == holder:
            del self._claims[name]

    async def close(self) -> None:
        """See Store. The items stay."""
