"""A store in this process's memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.store.base import StoreLimits, check_size

# What an item takes beside its value: the key, the entry and their places in the dictionary.
_OVERHEAD_BYTES = 300


@dataclass(slots=True)
class _Entry:
    value: bytes
    expires_at: float


class MemoryStore:
    """See Store. Safe to call from one event loop; nothing in it waits.

    Items lie in the order of their last use. All live equally long after it, so the first is both the next to expire
    and the next to give way to others. `clock` gives seconds and never goes back.
    """

    def __init__(self, limits: StoreLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0

    @property
    def size(self) -> int:
        """What all items take, in bytes; at most `limits.max_bytes` and one item's overhead."""
        return self._bytes

    async def get(self, owner: str, key: str) -> bytes | None:
        """See Store."""
        self._drop_expired()
        entry = self._entries.get((owner, key))
        if entry is None:
            return None
        entry.expires_at = self._clock() + self.limits.ttl_s
        self._entries.move_to_end((owner, key))
        return entry.value

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        return [await self.get(owner, key) for key in keys]

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """See Store."""
        check_size(value, self.limits)
        self._drop_expired()
        self._drop((owner, key))
        self._entries[owner, key] = _Entry(value, self._clock() + self.limits.ttl_s)
        self._bytes += _size(value)
        while self._bytes > self.limits.max_bytes and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))

    async def delete(self, owner: str, key: str) -> bool:
        """See Store."""
        self._drop_expired()
        return self._drop((owner, key))

    async def close(self) -> None:
        """See Store. The items stay."""

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._entries:
            place, entry = next(iter(self._entries.items()))
            if entry.expires_at > now:
                return
            self._drop(place)

    def _drop(self, place: tuple[str, str]) -> bool:
        entry = self._entries.pop(place, None)
        if entry is None:
            return False
        self._bytes -= _size(entry.value)
        return True


def _size(value: bytes) -> int:
    return len(value) + _OVERHEAD_BYTES
