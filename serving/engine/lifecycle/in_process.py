"""The replicas of an application that is one process: each model's engine is its only one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from serving.engine.base import OwnedEngine
from serving.errors import ServingError

logger = logging.getLogger(__name__)


class EngineReplicas:
    """Replicas in one process: `engines`, which the caller has started.

    They are closed and started again as their models are unloaded and loaded.
    """

    def __init__(self, engines: Mapping[str, OwnedEngine]) -> None:
        self._engines = engines
        self._running = dict.fromkeys(engines, True)
        self._wanted = dict.fromkeys(engines, True)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def running(self, model: str) -> int | None:
        """See Replicas."""
        return int(self._running[model])

    def want(self, model: str, loaded: bool) -> None:
        """See Replicas."""
        self._wanted[model] = loaded
        if self._running[model] != loaded and model not in self._tasks:
            task = asyncio.create_task(self._follow(model), name=f"load or unload {model}")
            self._tasks[model] = task
            task.add_done_callback(lambda _: self._tasks.pop(model, None))

    async def close(self) -> None:
        """See Replicas. The caller closes the engines."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, model: str) -> None:
        while self._running[model] != (loaded := self._wanted[model]):
            if not loaded:
                self._running[model] = False  # one that closes answers nobody
                await self._engines[model].close()
                continue
            try:
                await self._engines[model].start()
            except ServingError as error:
                # It is asked for again within a second.
                logger.error("the engine of %s was not started: %s", model, error)
                return
            self._running[model] = True
