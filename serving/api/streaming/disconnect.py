"""Cancellation of work whose client disconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`; cancels it and raises ClientDisconnect when the client leaves before its end.

    The request's body must have been read: `receive` is only asked for the disconnect.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        leaving.result()
        raise ClientDisconnect
    finally:
        await _cancelled(leaving, working)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    for outcome in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            logger.warning("failed while being cancelled", exc_info=outcome)
