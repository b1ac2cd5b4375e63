"""What is wrong with a dashboard or a rule, as a reader in trouble at night would find it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser as promql

from grafana.panels import BAD
from serving.telemetry.definitions import DEFINITIONS

_ADDED = frozenset({"namespace", "release", "deployment", "replica", "model", "job", "instance", "le"})
_VLLM = frozenset({"model_name", "engine", "reason", "source", "finished_reason"})
_PROCESS = {
    "process_start_time_seconds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
}
_BLACKBOX = {"probe_ssl_earliest_cert_expiry": "gauge"}
_KUBERNETES: Mapping[str, tuple[str, frozenset[str]]] = {
    "kube_pod_container_status_restarts_total": ("counter", frozenset({"namespace", "pod", "container"})),
    "kube_pod_status_ready": ("gauge", frozenset({"namespace", "pod", "condition"})),
    "kubelet_volume_stats_available_bytes": ("gauge", frozenset({"namespace", "persistentvolumeclaim"})),
    "kubelet_volume_stats_capacity_bytes": ("gauge", frozenset({"namespace", "persistentvolumeclaim"})),
    **{
        f"DCGM_FI_DEV_{name}": ("gauge", frozenset({"namespace", "Hostname", "gpu"}))
        for name in (
            *("XID_ERRORS", "UNCORRECTABLE_REMAPPED_ROWS", "ROW_REMAP_FAILURE"),
            *("GPU_UTIL", "FB_USED", "POWER_USAGE", "GPU_TEMP"),
        )
    },
}
"""Of kube-state-metrics, the kubelet and NVIDIA's DCGM exporter."""
_OF_COUNTERS = frozenset({"rate", "irate", "increase", "resets"})
_WINDOWS = re.compile(r"\[(.*?)\]")
_SUBSTITUTED = {
    "$__rate_interval": "1m",
    "$__range_s": "3600",
    "$__range": "1h",
    "$gpu_hour_price": "2.50",
    "$first_token_s": "2.5",
}
_VARIABLES = ("datasource", "namespace", "release", "model", "team", "replica")


@cache
def known_metrics() -> Mapping[str, tuple[str, frozenset[str]]]:
    """Every series there may be, as it is stored: its kind and its labels."""
    vllm = json.loads((Path(__file__).parent / "vllm_metrics.json").read_text())["metrics"]
    known: dict[str, tuple[str, frozenset[str]]] = {d.name: (d.kind, frozenset(d.labels) | _ADDED) for d in DEFINITIONS}
    known |= {name: (kind, _VLLM | _ADDED) for name, kind in vllm.items()}
    known |= {name: (kind, _ADDED) for name, kind in (_PROCESS | _BLACKBOX).items()}
    known |= _KUBERNETES
    series: dict[str, tuple[str, frozenset[str]]] = {}
    for name, (kind, labels) in known.items():
        if kind == "histogram":
            series |= {name + suffix: ("counter", labels) for suffix in ("_bucket", "_sum", "_count")}
        else:
            series[name] = (kind, labels)
    return series


def substituted(expr: str) -> str:
    """The expression as Grafana sends it, with every variable at All."""
    for variable, value in _SUBSTITUTED.items():
        expr = expr.replace(variable, value)
    return re.sub(r"\$(namespace|release|model|team|replica)\b", ".*", expr)


def queries(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(panel's title, expression) of every query."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def dashboard_problems(dashboard: Mapping[str, Any], recorded: Iterable[str] = ()) -> list[str]:
    """What is wrong with a dashboard; `recorded` are the names that recording rules make."""
    problems: list[str] = []
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    titles = [panel["title"] for panel in panels]
    problems += [f"{title}: the title comes twice" for title in set(titles) if titles.count(title) > 1]
    for panel in panels:
        problems += [f"{panel['title']}: {problem}" for problem in _panel_problems(panel)]
    for title, expr in queries(dashboard):
        problems += [f"{title}: {problem}" for problem in _window_problems(expr)]
        problems += [f"{title}: {problem}" for problem in expression_problems(substituted(expr), recorded)]
    names = tuple(variable["name"] for variable in dashboard["templating"]["list"])
    if names[: len(_VARIABLES)] != _VARIABLES:
        problems.append(f"variables are {names}, and do not begin with {_VARIABLES}")
    text = json.dumps(dashboard["panels"])
    problems += [
        f"the variable {name} is used by no panel" for name in names if f"${name}" not in text.replace("{", "")
    ]
    return problems


def _panel_problems(panel: Mapping[str, Any]) -> Iterator[str]:
    shows, _, when_bad = panel.get("description", "").partition(BAD)
    if len(shows) < 30 or len(when_bad) < 30:
        yield "the description should say what it shows and what to do when it looks bad"
    if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        yield "has no unit"
    if panel.get("datasource", {}).get("uid") != "${datasource}":
        yield "does not use the data source variable"
    is_ratio = panel["type"] == "stat" and panel["fieldConfig"]["defaults"].get("unit") == "percentunit"
    if is_ratio and not all(target["expr"].startswith("clamp(") for target in panel["targets"]):
        yield "a ratio in a figure should be held to what it has room for"
    if panel["type"] == "timeseries" and not panel["options"]["legend"]["showLegend"]:
        yield "has no legend"
    legends = [target.get("legendFormat", "") for target in panel["targets"]]
    if not all(legends) or len(set(legends)) < len(legends):
        yield "every query needs a legend of its own"
    for target in panel["targets"]:
        if panel["type"] != "timeseries":
            continue
        grouped = set(_outer_labels(target["expr"]))
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        if grouped != shown:
            yield f"the legend shows {sorted(shown)} of series that differ in {sorted(grouped)}"


def _outer_labels(expr: str) -> list[str]:
    """The labels that the series of an expression differ in: those of its outermost aggregation."""
    found: list[list[str]] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.AggregateExpr):
            found.append([label for label in (node.modifier.labels if node.modifier else ()) if label != "le"])
            return False
        return True

    promql.walk(promql.parse(substituted(expr)), visit)
    return found[0] if found else []


def _window_problems(expr: str) -> Iterator[str]:
    for window in _WINDOWS.findall(expr):
        if window not in ("$__rate_interval", "$__range", "$__range:", "30d"):
            yield f"[{window}] should be [$__rate_interval], or [$__range] for the whole time range"


def expression_problems(expr: str, recorded: Iterable[str] = ()) -> list[str]:
    """What is wrong with PromQL that has no variables in it."""
    problems: list[str] = []
    names = frozenset(recorded)

    def visit(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            problems.extend(_selector_problems(node, names))
        elif isinstance(node, promql.Call):
            problems.extend(_call_problems(node))
        elif isinstance(node, promql.AggregateExpr):
            if str(node.op) in ("avg", "quantile"):
                problems.append("averages what may be averages already: divide sums instead")
            if _contains_quantile(node.expr) and str(node.op) not in ("max", "min"):
                problems.append("aggregates quantiles: sum the buckets, then take the quantile")

    promql.walk(promql.parse(expr), visit)
    return problems


def _selector_problems(selector: Any, recorded: frozenset[str]) -> Iterator[str]:
    name = selector.name
    if name in recorded:
        return
    if name not in known_metrics():
        yield f"there is no metric {name}"
        return
    labels = known_metrics()[name][1]
    for matcher in selector.matchers.matchers:
        if matcher.name not in labels:
            yield f"{name} has no label {matcher.name}"


def _call_problems(call: Any) -> Iterator[str]:
    name = call.func.name
    if name in ("avg_over_time", "quantile_over_time"):
        yield f"{name} averages over scrapes: use rate() of a counter or buckets"
    if name in _OF_COUNTERS:
        argument = call.args[0]
        if not isinstance(argument, promql.MatrixSelector):
            yield f"{name}() should be taken of the series themselves, before any sum"
            return
        metric = str(argument.vector_selector.name)
        if metric in known_metrics() and known_metrics()[metric][0] != "counter":
            yield f"{name}() of {metric}, which is no counter"
    if name == "histogram_quantile" and not re.match(r"sum by \(.*?\ble\b.*?\) \(rate\(", _text(call.args[1])):
        yield "histogram_quantile() should be of sum by (le, ...) (rate(..._bucket[...]))"


def _contains_quantile(node: Any) -> bool:
    return "histogram_quantile" in _text(node)


def _text(node: Any) -> str:
    """PromQL on one line, as it was written: `sum by (le) (rate(x[1m]))`."""
    text = re.sub(r"\s+", " ", node.prettify())
    return text.replace("( ", "(").replace(" )", ")")
