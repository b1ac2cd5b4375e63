"""Telemetry of one HTTP process: metrics, logs, traces and recent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from serving.engine.base import Owned
from serving.engine.start_failure import NoStartFailures, StartFailures
from serving.errors import ApiError
from serving.settings.tree import Settings
from serving.telemetry.build import config_hash, installed_versions
from serving.telemetry.exposition import Exposition, exposed
from serving.telemetry.logs import log_request
from serving.telemetry.metrics import Metrics
from serving.telemetry.recent import RecentEvents
from serving.telemetry.record import OnRecord
from serving.telemetry.recorder import Recording
from serving.telemetry.traces import RequestTraces


class ProcessTelemetry:
    """`metrics` for whoever has something to count, `recording` for the middleware, and the exposition of it all;
    `recent` has the latest requests that went wrong.

    `labels` are this process's own on a scrape, where it answers alone (see MetricsSource). `sinks` are told of each
    finished request, after the log. `engines` are asked, at each scrape, whether they are ready, and `start_failures`
    how many of their starts failed.
    """

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[str, Owned],
        *,
        labels: Mapping[str, str],
        sinks: Sequence[OnRecord] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.perf_counter,
        registry: CollectorRegistry | None = None,
        start_failures: StartFailures | None = None,
    ) -> None:
        self._engines = engines
        self._models = tuple(settings.models)
        self._start_failures = start_failures or NoStartFailures()
        self._before: list[Callable[[], None]] = []
        self._labels = labels
        self._registry = CollectorRegistry() if registry is None else registry
        ProcessCollector(registry=self._registry)
        self.metrics = Metrics(self._registry, settings.models)
        self.metrics.about(installed_versions(), config_hash(settings))
        self.recent = RecentEvents()
        self._traces = RequestTraces(settings.tracing) if settings.tracing.endpoint is not None else None
        traces = () if self._traces is None else (self._traces,)
        self.recording = Recording(
            self.metrics, clock, monotonic, (log_request, self.recent, *sinks, *traces), timed=bool(traces)
        )

    async def close(self) -> None:
        """Send the remaining traces."""
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    def before_each_scrape(self, look: Callable[[], None]) -> None:
        """Register `look` to be called before each scrape, for gauges that nothing else keeps current."""
        self._before.append(look)

    async def exposition(self, *, openmetrics: bool) -> bytes:
        """Exposition of this process."""
        for look in self._before:
            look()
        for name, engine in self._engines.items():
            self.metrics.engine_ready(name, await _is_ready(engine))
        for name, known in (await self._start_failures.read(self._models)).items():
            self.metrics.starts_failed(name, known.totals)
        return exposed(self._registry, openmetrics=openmetrics)

    async def collect(self, *, openmetrics: bool) -> list[Exposition]:
        """See MetricsSource: this process is the whole service, where nothing else is said."""
        return [Exposition(self._labels, await self.exposition(openmetrics=openmetrics))]


async def _is_ready(engine: Owned) -> bool:
    try:
        await engine.check_health()
    except ApiError:
        return False
    return True
