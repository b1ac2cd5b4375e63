"""A replica's engine with warm-up prompts and sleep mode: it sleeps when it is idle.

A request wakes a sleeping engine, so that no router has to know which engines sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import psutil

from serving.background import Background
from serving.engine.base import Adapter, EngineInfo, EngineReport, EngineRequest, PushingEngine, TokenDelta
from serving.engine.load import EngineLoad
from serving.engine.warm_up import warm_up
from serving.errors import ApiError, ConflictError
from serving.settings.models import ModelSettings

logger = logging.getLogger(__name__)


class SleepingEngine:
    """A replica's engine, which sleeps when it is idle and wakes for a request; see also AdapterHost and Sleeper.

    `clock` gives seconds since the epoch, `monotonic` seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        engine: PushingEngine,
        settings: ModelSettings,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._name = name
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._asleep = False
        self._at_work = 0
        self._used = monotonic()
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._background = Background()

    async def start(self) -> None:
        """See Engine. Returns once the settings' warm-up prompts have been asked."""
        await self._engine.start()
        await self._warm_up()
        self._used = self._monotonic()
        idle = self._settings.idle
        if idle is not None and idle.action == "sleep":
            self._background.run(self._sleep_when_idle(idle.after_s), f"have {self._name} sleep when it is idle")

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.prepare()

    async def check_health(self) -> None:
        """See Engine."""
        await self._engine.check_health()

    async def run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        """See PushingEngine."""
        async with self._awake():
            await self._engine.run(request, push)

    async def load_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        async with self._awake():
            await self._engine.load_adapter(adapter)

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        async with self._awake():
            await self._engine.unload_adapter(adapter)

    async def sleep(self) -> None:
        """See Sleeper."""
        await self._to_its_end(self._sleep())

    async def wake(self) -> None:
        """See Sleeper."""
        await self._to_its_end(self._wake())

    async def reports(self) -> list[EngineReport]:
        """See Sleeper."""
        memory, device_memory = await asyncio.gather(
            asyncio.to_thread(_memory_bytes), self._engine.used_device_memory()
        )
        return [EngineReport(self._asleep, memory, device_memory)]

    def load(self) -> EngineLoad | None:
        """See PushingEngine."""
        return self._engine.load()

    async def close(self) -> None:
        """See Engine."""
        await self._background.close()
        for change in self._changes:
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        await self._engine.close()
        self._asleep = False

    @contextlib.asynccontextmanager
    async def _awake(self) -> AsyncIterator[None]:
        # Counted first: from here on it does not fall asleep.
        self._at_work += 1
        try:
            if self._asleep or self._changing.locked():
                await self.wake()
            yield
        finally:
            self._at_work -= 1
            self._used = self._monotonic()

    async def _sleep(self) -> None:
        async with self._changing:
            if self._asleep:
                return
            if self._at_work:
                raise ConflictError(
                    f"The model '{self._name}' is at work on {self._at_work} requests; it can sleep when it is idle."
                )
            began = self._monotonic()
            await self._engine.sleep()
            self._asleep = True
            logger.info("engine of %s asleep after %.2f s", self._name, self._monotonic() - began)

    async def _wake(self) -> None:
        async with self._changing:
            if not self._asleep:
                return
            began = self._monotonic()
            await self._engine.wake()
            self._asleep = False
            logger.info("engine of %s awake after %.2f s", self._name, self._monotonic() - began)
        # Beside whatever woke it, which need not wait for prompts that are to help others.
        self._background.run(self._warm_up(), f"warm {self._name} up")

    async def _warm_up(self) -> None:
        if prompts := self._settings.warm_up:
            today = datetime.fromtimestamp(self._clock(), UTC).date()
            await warm_up(self.run, prompts, self._settings.reasoning.default_effort, today)

    async def _sleep_when_idle(self, after_s: float) -> None:
        while True:
            left = after_s - (self._monotonic() - self._used)
            await asyncio.sleep(max(left, after_s / 10))
            if self._asleep or self._at_work or self._monotonic() - self._used < after_s:
                continue
            try:
                await self.sleep()
            except ApiError as error:
                logger.warning("engine of %s does not sleep: %s", self._name, error)
                if not self._at_work:
                    return  # it cannot, and will not be able to

    async def _to_its_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Complete a change that its caller may abandon: half way the engine would neither sleep nor be awake."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changed)
        await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # seen; who asked may have left


def _memory_bytes() -> int:
    """Memory of this process and of those below it; what they share counts once (PSS)."""
    total = 0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            total += process.memory_full_info().pss
    return total
