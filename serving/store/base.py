"""Store protocol: bytes by owner and key, bounded by age and by size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.errors import ItemTooLargeError


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of a store: it forgets an item `ttl_s` after its last use, and the least recently used beyond `max_bytes`.

    `max_item_bytes` is the largest single value.
    """

    ttl_s: float
    max_bytes: int
    max_item_bytes: int


class Store(Protocol):
    """Store of values by owner and key.

    An owner never sees another's values: one that is missing, forgotten or another's looks the same.

    Implemented in memory, in Redis, and by the handle to an actor in the cluster. Every method raises
    StoreUnavailableError when the backend cannot be reached or does not answer within seconds.
    """

    async def get(self, owner: str, key: str) -> bytes | None:
        """Value of the key, or None. Being read is a use: the item's age starts again."""
        ...

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """Values of several keys in one round trip; see get()."""
        ...

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """Keep `value` in place of what was there; raises ItemTooLargeError."""
        ...

    async def replace(self, owner: str, key: str, before: bytes | None, value: bytes) -> bool:
        """Keep `value` if the key has `before` still (None: nothing), and tell whether; raises ItemTooLargeError."""
        ...

    async def delete(self, owner: str, key: str) -> bool:
        """Forget the item; False where there is none."""
        ...

    async def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """Claim `name` for `holder`, or renew its claim, for `ttl_s`; False while another holder's claim lasts.

        Claims are apart from values, and no limit of the store holds for them. One may be lost with the store's
        memory; its holder then claims it again, like any other.
        """
        ...

    async def release(self, name: str, holder: str) -> None:
        """End the holder's claim; do nothing where it has none."""
        ...

    async def close(self) -> None:
        """Close connections. May be called more than once."""
        ...


def check_size(value: bytes, limits: StoreLimits) -> None:
    """Raise ItemTooLargeError for a value that `limits` do not allow."""
    largest = min(limits.max_item_bytes, limits.max_bytes)
    if len(value) > largest:
        raise ItemTooLargeError(f"{len(value)} bytes, where a store keeps at most {largest} in one item")
