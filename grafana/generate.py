"""The files that come of the builders, and whether those committed are current."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.backends import backends
from grafana.engines import engines
from grafana.harmony import harmony
from grafana.overview import overview
from grafana.queries import scoped
from grafana.teams import teams
from grafana.throughput import throughput
from grafana.vllm_metrics import installed_metrics

HERE = Path(__file__).parent

BUILDERS: Mapping[str, Callable[[], Dashboard]] = {
    "overview": overview,
    "throughput": throughput,
    "teams": teams,
    "engines": engines,
    "harmony": harmony,
    "backends": backends,
}


def built(name: str) -> dict[str, Any]:
    """A dashboard as Grafana takes it."""
    dashboard: dict[str, Any] = json.loads(json.dumps(BUILDERS[name]().build(), cls=JSONEncoder))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            target["expr"] = scoped(target["expr"])
    _number(dashboard["panels"])
    return dashboard


def files() -> dict[Path, str]:
    """What each generated file should hold."""
    generated: dict[Path, Any] = {HERE / "dashboards" / f"{name}.json": built(name) for name in BUILDERS}
    generated[HERE / "vllm_metrics.json"] = installed_metrics()
    return {path: json.dumps(content, indent=1, sort_keys=True) + "\n" for path, content in generated.items()}


def write() -> None:
    """Write them."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def _number(panels: list[dict[str, Any]]) -> None:
    """Ids that stay while panels are only added at the end; links to single panels use them."""
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
