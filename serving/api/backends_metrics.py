"""Which backends can be asked: looked up at each scrape."""

from __future__ import annotations

from serving.backends.directory import Backends
from serving.telemetry.metrics import Metrics


class BackendMetrics:
    """Call it before metrics are read."""

    def __init__(self, backends: Backends, metrics: Metrics) -> None:
        self._backends = backends
        self._metrics = metrics

    def __call__(self) -> None:
        """Set the gauge anew; backends that are gone go from it."""
        self._metrics.backends_ready({backend.name: backend.ready for backend in self._backends.all()})
