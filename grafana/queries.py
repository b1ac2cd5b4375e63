"""The pieces of PromQL that panels share."""

from __future__ import annotations

import re

from serving.telemetry.outcomes import SERVER_FAULTS

REQUEST = 'model=~"$model", team=~"$team", replica=~"$replica"'
"""Filters for series of ours that know their team."""

MODEL = 'model=~"$model", replica=~"$replica"'
"""Filters for series of ours that do not."""

ENGINE = 'model=~"$model", replica=~"$replica"'
"""Filters for vLLM's series, which whoever collects them has given a model and a replica."""

FAULTS = "|".join(SERVER_FAULTS)
ANSWERABLE = f"ok|{FAULTS}"


def rate(metric: str, filters: str, by: str = "") -> str:
    """A counter's rate, summed over replicas; `by` names the labels that stay, with commas."""
    return f"sum{_by(by)} (rate({metric}{{{filters}}}[$__rate_interval]))"


def total(metric: str, filters: str, by: str = "") -> str:
    """How much a counter grew in the whole time range, for figures and tables."""
    return f"sum{_by(by)} (increase({metric}{{{filters}}}[$__range]))"


def buckets(metric: str, filters: str) -> str:
    """How many values each bucket of a histogram had in a step of the graph, for heatmaps."""
    return f"sum by (le) (increase({metric}_bucket{{{filters}}}[$__rate_interval]))"


def now(metric: str, filters: str, by: str = "") -> str:
    """A gauge, summed over replicas."""
    return f"sum{_by(by)} ({metric}{{{filters}}})"


def quantile(q: float, metric: str, filters: str, by: str = "", window: str = "$__rate_interval") -> str:
    """A quantile of a histogram over all replicas together: buckets are summed before, results never."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{filters}}}[{window}])))"


_METRIC = re.compile(r"\b((?:serving_|vllm:|process_|model:)[a-z0-9_:]+)(\{)?")


def scoped(expr: str, scope: str = 'namespace=~"$namespace", release=~"$release"') -> str:
    """`expr` with `scope` added to every selector: one of several releases, as the dashboards' variables choose it."""
    return _METRIC.sub(lambda found: f"{found[1]}{{{scope}{', ' if found[2] else '}'}", expr)


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
