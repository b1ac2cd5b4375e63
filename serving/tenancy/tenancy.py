"""Everything about teams in one process, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from serving.settings import Settings
from serving.tenancy.authenticator import Authenticator, admin_hash
from serving.tenancy.directory import TeamDirectory
from serving.tenancy.failures import FailureBrake

logger = logging.getLogger(__name__)


class Tenancy:
    """Made once by whoever makes the application.

    `start` begins what runs beside the requests and needs an event loop; the first request calls it where nobody has.
    `close` ends it. `clock` gives seconds since the epoch, `monotonic` seconds that never go back. Raises
    SettingsError for a teams file or an admin key's file that is wrong.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.directory = TeamDirectory(Path(settings.teams_file), clock) if settings.teams_file else None
        self.authenticator = Authenticator(self.directory, admin_hash(settings))
        self.brake = FailureBrake(monotonic)
        self._tasks: list[asyncio.Task[None]] | None = None

    def start(self) -> None:
        """Begin what runs beside the requests; does nothing the second time."""
        if self._tasks is not None:
            return
        self._tasks = []
        if self.directory is not None:
            self._run(self.directory.watch(), "watch the teams file")

    async def close(self) -> None:
        """End it. May be called more than once."""
        tasks, self._tasks = self._tasks or [], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_failure)
        assert self._tasks is not None
        self._tasks.append(task)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("%s ended, which it never should", task.get_name(), exc_info=error)
