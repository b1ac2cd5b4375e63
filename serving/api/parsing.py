"""Bodies are read on the event loop, unless that would keep other requests waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

# About 1 ms of parsing; a schema of 128 KiB takes 0.4 s, in which a thread gives others their turns.
_LONG_BYTES = 32 * 1024


async def parsed(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """`parse(body)`, in a thread where the body is long; raises what it raises."""
    return parse(body) if len(body) < _LONG_BYTES else await asyncio.to_thread(parse, body)
