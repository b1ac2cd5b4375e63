"""Responses under way in this process, and their cancellation from any process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, TypeVar

from serving.api.openai.responses.archive import ResponseArchive
from serving.errors import StoreUnavailableError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
Reason = Literal["cancelled", "timeout"]

_ASK_EVERY_S = 0.5


class Interruptible:
    """Source of events that can be interrupted without an end of the task that takes them.

    An interruption ends the wait for the next event; it never cuts the reader's work on an event short.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._waiting: asyncio.Task[object] | None = None

    def interrupt(self, reason: Reason) -> None:
        """End the events; the first reason counts. Called on the event loop."""
        if self.reason is None:
            self.reason = reason
            if self._waiting is not None:
                self._waiting.cancel()

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Interrupt when the block takes longer."""
        alarm = asyncio.get_running_loop().call_later(seconds, self.interrupt, "timeout")
        try:
            yield
        finally:
            alarm.cancel()

    async def next(self, events: AsyncGenerator[_T, None]) -> _T | None:
        """The next of `events`; None at their end, and once interrupted. The caller closes `events`."""
        if self.reason is not None:
            return None
        self._waiting = task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        try:
            return await anext(events, None)
        except asyncio.CancelledError:
            # Ours, unless the task is cancelled besides.
            if not self._interrupted() or task.uncancel() > 0:
                raise
            return None
        finally:
            self._waiting = None

    def _interrupted(self) -> bool:
        return self.reason is not None


class InFlight:
    """Responses under way here, by id. While there are any, the store is asked which of them are to be cancelled."""

    def __init__(self, archive: ResponseArchive) -> None:
        self._archive = archive
        self._running: dict[str, Interruptible] = {}
        self._asking: asyncio.Task[None] | None = None

    def interrupt(self, response_id: str) -> bool:
        """Cancel a response that runs here; False where it does not."""
        run = self._running.get(response_id)
        if run is not None:
            run.interrupt("cancelled")
        return run is not None

    @asynccontextmanager
    async def running(self, response_id: str, run: Interruptible) -> AsyncIterator[None]:
        """While the block runs, `run` can be cancelled by its id, from any server that shares the store."""
        self._running[response_id] = run
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_ever(), name="ask for cancelled responses")
        try:
            yield
        finally:
            del self._running[response_id]
            if not self._running:
                asking, self._asking = self._asking, None
                asking.cancel()
                await asyncio.wait({asking})

    async def _ask_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY_S)
            try:
                for response_id in await self._archive.asked_to_cancel(self._running):
                    self.interrupt(response_id)
            except StoreUnavailableError as error:
                logger.warning("cannot ask which responses are cancelled: %s", error)
