"""Merge of several streams into one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

_T = TypeVar("_T")


def merged(sources: Sequence[AsyncGenerator[_T]]) -> AsyncGenerator[_T]:
    """Merge `sources`: their items as they come, each source's own order kept.

    The first error of any source is raised, and the others are closed. Closing this closes them all.
    """
    return sources[0] if len(sources) == 1 else _Merge(sources).items()


@dataclass(frozen=True, slots=True)
class _End:
    """End of a source, with its error if it failed."""

    error: Exception | None = None


class _Merge(Generic[_T]):
    def __init__(self, sources: Sequence[AsyncGenerator[_T]]) -> None:
        # One item a source: a slow reader holds the sources back instead of filling memory.
        self._queue: asyncio.Queue[tuple[_T] | _End] = asyncio.Queue(len(sources))
        self._sources = sources

    async def items(self) -> AsyncGenerator[_T]:
        tasks = [asyncio.create_task(self._pump(source)) for source in self._sources]
        running = len(tasks)
        try:
            while running:
                item = await self._queue.get()
                if isinstance(item, tuple):
                    yield item[0]
                elif item.error is not None:
                    raise item.error
                else:
                    running -= 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, source: AsyncGenerator[_T]) -> None:
        end = _End()
        try:
            async with aclosing(source):
                async for item in source:
                    await self._queue.put((item,))
        except Exception as error:  # noqa: BLE001  (handed on: items() raises it)
            end = _End(error)
        await self._queue.put(end)
