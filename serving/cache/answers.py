"""Cache of whole answers and of generations under way, by owner and request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Literal

import msgspec

from serving.cache.encoding import KeptAnswer, decode_answer, encode_answer
from serving.cache.shared import Reader, SharedGeneration
from serving.engine.base import Sampling
from serving.errors import ItemTooLargeError, StoreUnavailableError
from serving.generation.types import ChatEvent
from serving.settings.storage import CacheSettings
from serving.store.base import Store

logger = logging.getLogger(__name__)

Failure = Literal["read", "write", "too_large"]

_AWAY_S = 5.0
"""How long a store that could not be reached is not asked again: requests must not wait for it one by one."""
_REMIND_S = 60.0
_MANY_EVENTS = 1000
_MANY_BYTES = 64 * 1024


class AnswerCache:
    """Answer cache of one process; `store` may be shared by several, and is closed with this.

    Without its store nothing is found or kept, and every request is answered as if there were no cache. `clock` gives
    seconds since the epoch, `monotonic` seconds that never go back; `on_failure` is told what the store did not do.
    """

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_failure: Callable[[Failure], None] = lambda failure: None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._running: dict[tuple[str, str, bool], SharedGeneration] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._away_until = self._reminded = float("-inf")

    def takes(self, sampling: Sampling) -> bool:
        """Whether requests that do not say so use the cache."""
        settings = self._settings
        return (settings.greedy and sampling.temperature == 0) or (settings.seeded and sampling.seed is not None)

    def join(self, owner: str, key: str, *, streaming: bool) -> Reader | None:
        """Reader of the generation under way for an identical request; None where there is none.

        Who watches joins only an answer that comes as it is made, or is there.
        """
        shared = self._running.get((owner, key, True))
        if shared is None:
            shared = self._running.get((owner, key, False))
            if shared is not None and streaming and not shared.over:
                shared = None
        return None if shared is None else shared.join()

    async def find(self, owner: str, key: str) -> KeptAnswer | None:
        """Cached answer, if there is one."""
        if self._monotonic() < self._away_until:
            return None
        try:
            data = await self._store.get(owner, key)
            if data is None:
                return None
            kept = await asyncio.to_thread(decode_answer, data) if len(data) > _MANY_BYTES else decode_answer(data)
        except StoreUnavailableError as error:
            self._lost("read", error)
            return None
        except msgspec.MsgspecError as error:
            self._on_failure("read")
            logger.warning("a kept answer cannot be read, and is made again: %s", error)
            return None
        # A store counts the time from the last use, and an answer's counts from its making.
        return kept if abs(self._clock() - kept.made_at) < self._settings.ttl_s else None

    def begin(
        self,
        owner: str,
        key: str,
        events: AsyncGenerator[ChatEvent],
        *,
        streaming: bool,
        on_over: Callable[[], None],
    ) -> Reader:
        """Start a generation for this request and those that join; `on_over` is called at its end.

        A whole answer is kept. Nothing is waited for between a join() that found none and this.
        """
        place = (owner, key, streaming)
        shared = SharedGeneration(self._settings.max_item_bytes, lambda: self._close(place, shared))
        self._running[place] = shared
        reader = shared.join()
        shared.start(events, lambda made: self._keep(owner, key, made), on_over)
        assert shared.task is not None, "it has just begun"
        self._tasks.add(shared.task)
        shared.task.add_done_callback(self._tasks.discard)
        return reader

    async def close(self) -> None:
        """Stop all generations and close the store. May be called more than once."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    def _close(self, place: tuple[str, str, bool], shared: SharedGeneration) -> None:
        if self._running.get(place) is shared:
            del self._running[place]
        if shared.too_large:
            self._on_failure("too_large")

    async def _keep(self, owner: str, key: str, made: Sequence[ChatEvent]) -> None:
        if self._monotonic() < self._away_until:
            return
        now = self._clock()
        try:
            many = len(made) > _MANY_EVENTS
            data = await asyncio.to_thread(encode_answer, made, now) if many else encode_answer(made, now)
            await self._store.put(owner, key, data)
        except ItemTooLargeError:
            self._on_failure("too_large")
        except StoreUnavailableError as error:
            self._lost("write", error)

    def _lost(self, failure: Failure, error: StoreUnavailableError) -> None:
        self._on_failure(failure)
        now = self._monotonic()
        self._away_until = now + _AWAY_S
        if now - self._reminded >= _REMIND_S:
            self._reminded = now
            logger.error("answers are neither found nor kept now: %s %r", error, error.__cause__)
