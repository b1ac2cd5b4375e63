"""Gauges of engines' saturation, of teams' limits and of their keys' expiry, set at each scrape."""

from __future__ import annotations

from serving.telemetry.metrics import Metrics
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.tenancy import Tenancy


class TenancyMetrics:
    """Setter of the gauges; it is called before metrics are read. Limits are as this replica knows them."""

    def __init__(self, tenancy: Tenancy, metrics: Metrics) -> None:
        self._tenancy = tenancy
        self._metrics = metrics

    def __call__(self) -> None:
        """Set the gauges anew, without teams and keys that are gone."""
        for model in self._tenancy.models:
            self._metrics.engine_saturated(model, self._tenancy.admission(model).saturation)
        directory = self._tenancy.directory
        if directory is None:
            return
        used: dict[tuple[str, str], float] = {}
        expiries: dict[tuple[str, str], float] = {}
        for name, team in directory.teams.items():
            windows = self._tenancy.limiter.windows(Identity(name, team))
            for limit, window in zip(("requests_per_minute", "tokens_per_minute"), windows, strict=True):
                if window is not None:
                    used[name, limit] = 1 - window.left / window.limit
            for key in team.keys:
                if key.expires is not None and not key.revoked:
                    expiries[name, key.id] = key.expires.timestamp()
        self._metrics.limits_used(used)
        self._metrics.keys_expire(expiries)
