"""Reports of an engine's load from its replica to the ingress replicas whose requests it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from serving.cluster.transport.frames import Address
from serving.cluster.transport.outbox import Outbox
from serving.engine.load import EngineLoad


class LoadReports:
    """Sends `load()` through `outbox` every `every_s` seconds while the replica has requests, and once after the last.

    Everything runs on the event loop that enters `request`.
    """

    def __init__(self, load: Callable[[], EngineLoad | None], outbox: Outbox, every_s: float) -> None:
        self._load = load
        self._outbox = outbox
        self._every_s = every_s
        self._requests = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def request(self, address: Address) -> Iterator[None]:
        """Around a request of the ingress replica at `address`."""
        self._outbox.greet(address)
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
            self._outbox.report(load)
        busy = self._requests > 0 or (load is not None and not load.idle)
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._report) if busy else None
