"""The adapters in an engine's memory: as many as fit, and always those in use."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serving.engine.base import Adapter
from serving.errors import AdapterUnavailableError, CheckpointError, OverloadedError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_RETRY_AFTER_S = 5.0


@dataclass(slots=True)
class _Loaded(Generic[_T]):
    handle: _T
    users: int = 0
    leaving: bool = False


class LoadedAdapters(Generic[_T]):
    """Loads adapters when they are asked for, and puts away those not used the longest.

    vLLM has a cache of its own, which reads an adapter's files again when one that was put away is used, in the middle
    of a step that fails for all if they are gone. So this one, of the same size, stands before it: an adapter in use
    is never put away, and files are read only where a failure is one request's.

    `load` makes an adapter's handle or raises CheckpointError; `remove` ends it. Safe within one event loop.
    """

    def __init__(
        self,
        capacity: int,
        load: Callable[[Adapter], Awaitable[_T]],
        remove: Callable[[_T], Awaitable[None]],
    ) -> None:
        self._capacity = capacity
        self._load = load
        self._remove = remove
        self._loaded: OrderedDict[Adapter, _Loaded[_T]] = OrderedDict()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def adapters(self) -> list[Adapter]:
        """The loaded adapters, the longest unused first, without those that are unloaded once they are idle."""
        return [adapter for adapter, loaded in self._loaded.items() if not loaded.leaving]

    async def load(self, adapter: Adapter) -> None:
        """Have it in memory. Raises CheckpointError, and OverloadedError where all others are in use."""
        await self._to_its_end(self._bring(adapter))

    async def unload(self, adapter: Adapter) -> None:
        """Put it away: now if it is idle, else when something is loaded or put away after its last user left."""
        if (loaded := self._loaded.get(adapter)) is not None:
            loaded.leaving = True
        await self._to_its_end(self._tidy())

    @asynccontextmanager
    async def use(self, adapter: Adapter) -> AsyncIterator[_T]:
        """The adapter's handle, valid until the end of the block; loads it first where it is not in memory.

        Raises AdapterUnavailableError where it cannot be loaded, OverloadedError where there is no room for it.
        """
        while (loaded := self._loaded.get(adapter)) is None:
            try:
                await self._to_its_end(self._bring(adapter))
            except CheckpointError as error:
                logger.error("the adapter %r cannot be loaded: %s", adapter.name, error)
                raise AdapterUnavailableError(
                    f"The adapter '{adapter.name}' cannot be loaded. The server's log says why.", param="model"
                ) from error
        loaded.users += 1
        self._loaded.move_to_end(adapter)
        try:
            yield loaded.handle
        finally:
            loaded.users -= 1

    async def close(self) -> None:
        """Stop loads under way. Loaded adapters go with the engine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Cancelled half way, nobody would know what the engine has."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen; who asked may have left

    async def _bring(self, adapter: Adapter) -> None:
        async with self._lock:
            if (loaded := self._loaded.get(adapter)) is not None:
                loaded.leaving = False
                return
            await self._put_away_leaving()
            while len(self._loaded) >= self._capacity:
                oldest = next((each for each, loaded in self._loaded.items() if not loaded.users), None)
                if oldest is None:
                    raise OverloadedError(
                        f"The adapter '{adapter.name}' has to wait: all {self._capacity} that fit are in use.",
                        retry_after_s=_RETRY_AFTER_S,
                    )
                await self._put_away(oldest)
            self._loaded[adapter] = _Loaded(await self._load(adapter))

    async def _tidy(self) -> None:
        async with self._lock:
            await self._put_away_leaving()

    async def _put_away_leaving(self) -> None:
        for adapter in [each for each, loaded in self._loaded.items() if loaded.leaving and not loaded.users]:
            await self._put_away(adapter)

    async def _put_away(self, adapter: Adapter) -> None:
        # Out of the table first: who asks for it meanwhile waits for the lock and loads it again.
        await self._remove(self._loaded.pop(adapter).handle)
