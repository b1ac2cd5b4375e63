"""Reports of what waits for admission at this ingress replica, for the autoscaling policy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Mapping

from ray.exceptions import RayError

from serving.background import Background
from serving.cluster.autoscaling import Queued
from serving.cluster.stores import queued as store

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_WITHIN_S = 1.0


class QueueReports:
    """Publishes what waits for each model of `queues` once a second, and nothing while nothing waits.

    `queues` has the models whose number of engines may change. Its owner closes it.
    """

    def __init__(self, queues: Mapping[str, Callable[[], Queued]], ingress: str) -> None:
        self._queues = queues
        self._ingress = ingress
        self._published: set[str] = set()
        self._background = Background()

    def start(self) -> None:
        """Begin, if there is anything to report of."""
        if self._queues:
            self._background.run(self._report_forever(), "reports of what waits for admission")

    async def close(self) -> None:
        """End, and take back what was published."""
        await self._background.close()
        for model in self._published:
            with contextlib.suppress(RayError, TimeoutError):  # old reports count no more
                await asyncio.to_thread(store.withdraw, model, self._ingress, _WITHIN_S)

    async def report(self) -> None:
        """Publish what waits now, and once more when nothing does any more."""
        for model, ask in self._queues.items():
            queued = ask()
            if not queued.sequences and model not in self._published:
                continue
            self._published.add(model)  # before: close() may come while the store is being written to
            work = functools.partial(store.publish, model, self._ingress, queued, _WITHIN_S)
            try:
                await asyncio.to_thread(work)
            except (RayError, TimeoutError) as error:
                logger.warning("it cannot be told how many requests wait for %s: %s", model, error)
                continue
            if not queued.sequences:
                self._published.discard(model)

    async def _report_forever(self) -> None:
        while True:
            await self.report()
            await asyncio.sleep(_EVERY_S)
