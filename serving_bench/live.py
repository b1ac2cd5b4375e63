"""Progress on stderr: a moving line on a terminal, one line a run elsewhere."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console
from rich.status import Status

from serving_bench.collector import Collector
from serving_bench.runner import Load, Runner
from serving_bench.units import seconds, significant

_EVERY_S = 0.5


class LiveProgress:
    """Progress line of a run. Its own cost, some 0.2 % of a core, counts as the load generator's."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._ticking: asyncio.Task[None] | None = None

    def begin(self, what: str, runner: Runner, collector: Collector, load: Load) -> None:
        """See session.Progress."""
        if not self._console.is_terminal:
            self._console.print(what, markup=False, highlight=False)
            return
        self._status = self._console.status(what, refresh_per_second=4)
        self._status.start()
        self._ticking = asyncio.create_task(self._tick(what, runner, collector, load))

    def end(self) -> None:
        """See session.Progress."""
        ticking, self._ticking = self._ticking, None
        status, self._status = self._status, None
        if ticking is not None:
            ticking.cancel()
        if status is not None:
            status.stop()

    async def _tick(self, what: str, runner: Runner, collector: Collector, load: Load) -> None:
        started = before = time.perf_counter()
        completed_before = 0.0
        while self._status is not None:
            await asyncio.sleep(_EVERY_S)
            now = time.perf_counter()
            tokens = collector.tokens or 0.0
            rate = (tokens - completed_before) / (now - before)
            before, completed_before = now, tokens
            parts = [
                f"{what}:",
                _passed(now - started, collector.sent, load),
                f"{runner.in_flight} under way",
                f"{significant(rate)} tokens/s",
                f"TTFT {seconds(collector.ttft.quantile(0.5))}",
            ]
            if collector.errors:
                parts.append(", ".join(f"{count} x {kind}" for kind, count in collector.errors.most_common(2)))
            if self._status is not None:
                self._status.update("  ".join(parts))


def _passed(elapsed_s: float, sent: int, load: Load) -> str:
    parts = []
    if load.seconds is not None:
        parts.append(f"{elapsed_s:.0f} of {load.seconds:.0f} s")
    parts.append(f"{sent} of {load.requests} requests" if load.requests is not None else f"{sent} requests")
    return ", ".join(parts)
