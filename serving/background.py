"""Work that goes on beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# About 1 ms of parsing or 3 ms of tokenizing; a schema of 128 KiB takes 0.4 s, in which a thread gives others turns.
_LONG_BYTES = 32 * 1024


class Background:
    """Tasks of one owner, who closes it. One that fails is told of in the log."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin a task; `name` says what it does."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """End them. May be called more than once."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s ended, which it never should", task.get_name(), exc_info=error)


async def in_thread_if_long(size: int, work: Callable[[], _T]) -> _T:
    """`work()` on something of `size` bytes, in a thread where it would keep other requests waiting."""
    return work() if size < _LONG_BYTES else await asyncio.to_thread(work)
