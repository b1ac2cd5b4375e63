"""Reports of an engine's load from its replica to the ingress replicas whose requests it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from serving.engine.load import EngineLoad

_IDLE_EVERY_S = 10.0
"""Interval of an idle replica's reports: without one in a while it is not known whether its load is still that."""


class LoadReports:
    """Gives `load()` to `report` every `every_s` seconds while the replica has work, else now and then.

    Everything runs on the event loop that makes it.
    """

    def __init__(
        self, load: Callable[[], EngineLoad | None], report: Callable[[EngineLoad], None], every_s: float
    ) -> None:
        self._load = load
        self._send = report
        self._every_s = every_s
        self._requests = 0
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._timer = self._loop.call_later(_IDLE_EVERY_S, self._report)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around a request."""
        self._requests += 1
        if not self._busy:
            self._busy = True
            self._timer.cancel()
            self._timer = self._loop.call_later(self._every_s, self._report)
        try:
            yield
        finally:
            self._requests -= 1

    def close(self) -> None:
        """Send no more."""
        self._timer.cancel()

    def _report(self) -> None:
        load = self._load()
        if load is not None:
            self._send(load)
        self._busy = self._requests > 0 or (load is not None and not load.idle)
        self._timer = self._loop.call_later(self._every_s if self._busy else _IDLE_EVERY_S, self._report)
