"""Gauges of backends and of the teams that may send requests outside, set at each scrape."""

from __future__ import annotations

from serving.backends.registry import Backends
from serving.telemetry.metrics import Metrics
from serving.tenancy.auth.authenticator import OPEN
from serving.tenancy.tenancy import Tenancy


class BackendMetrics:
    """Setter of the gauges; it is called before metrics are read."""

    def __init__(self, backends: Backends, tenancy: Tenancy, metrics: Metrics) -> None:
        self._backends = backends
        self._tenancy = tenancy
        self._metrics = metrics

    def __call__(self) -> None:
        """Set the gauges anew, without backends that are gone, and begin counters that may move at 0."""
        backends = self._backends.all()
        self._metrics.backends_ready({backend.name: backend.ready for backend in backends})
        outside = [backend.name for backend in backends if backend.external]
        for team in self._who_may_leave() if outside else ():
            for backend in outside:
                self._metrics.may_be_sent_outside(team, backend)

    def _who_may_leave(self) -> list[str]:
        directory = self._tenancy.directory
        if directory is None:
            return [OPEN.team] if self._backends.external else []
        return [name for name, team in directory.teams.items() if team.external]
