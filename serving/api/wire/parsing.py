"""Bodies are read on the event loop, unless that would keep other requests waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from serving.api.wire.presets import Expand

_T = TypeVar("_T")

# About 1 ms of parsing or 3 ms of tokenizing; a schema of 128 KiB takes 0.4 s, in which a thread gives others turns.
_LONG_BYTES = 32 * 1024


async def parsed(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """`parse(body)`; raises what it raises."""
    return await in_thread_if_long(len(body), lambda: parse(body))


async def expanded(parse: Callable[[bytes, Expand], _T], body: bytes, expand: Expand) -> _T:
    """As parsed(), of the request that the one in `body` stands for."""
    return await in_thread_if_long(len(body), lambda: parse(body, expand))


async def in_thread_if_long(size: int, work: Callable[[], _T]) -> _T:
    """`work()` on something of `size` bytes."""
    return work() if size < _LONG_BYTES else await asyncio.to_thread(work)
