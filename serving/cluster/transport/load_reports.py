"""Reports of an engine's load from its replica to the ingress replicas whose requests it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from serving.engine.load import EngineLoad


class LoadReports:
    """Gives `load()` to `report` every `every_s` seconds while the replica has requests, and once after the last.

    Everything runs on the event loop that enters `request`.
    """

    def __init__(
        self, load: Callable[[], EngineLoad | None], report: Callable[[EngineLoad], None], every_s: float
    ) -> None:
        self._load = load
        self._send = report
        self._every_s = every_s
        self._requests = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around a request."""
        self._requests += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._report)
        try:
            yield
        finally:
            self._requests -= 1

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _report(self) -> None:
        load = self._load()
        if load is not None:
            self._send(load)
        busy = self._requests > 0 or (load is not None and not load.idle)
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._report) if busy else None
