"""Draw the dashboards from a Prometheus' data: for documents, where no Grafana is at hand.

usage: python -m grafana.pictures PROMETHEUS_URL FOLDER [SECONDS]

The panels are the dashboards' own, with their titles, units, legends and queries; how they are drawn is ours.
"""

from __future__ import annotations

import asyncio
import html
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import async_playwright

from grafana import generate
from grafana.lint import substituted
from grafana.panels import TOKENS_S

_COLOURS = (
    "#3457d5",
    "#1f8a5b",
    "#c9821b",
    "#7c5cd6",
    "#c62a2f",
    "#2b7fc4",
    "#8a94a6",
    "#d0589c",
    "#5f7f1f",
    "#0e8a8a",
)
_CELL = 54
_ROW_HEIGHT = 30
_STYLE = """
body{margin:0;padding:18px;background:#f1f3f6;font:12px/1.35 system-ui,sans-serif;color:#16191d;width:1296px}
h1{font-size:19px;margin:0 0 10px} .board{position:relative}
.panel,.row{position:absolute;box-sizing:border-box;padding:3px}
.box{background:#fff;border:1px solid #dfe3e8;border-radius:4px;height:100%;box-sizing:border-box;padding:7px 9px;
overflow:hidden} .row{font-weight:700;padding:7px 4px} h2{font-size:12.5px;font-weight:600;margin:0 0 3px}
.big{font-size:31px;font-weight:650;text-align:center;padding-top:16px} .good{background:#1f8a5b;color:#fff}
.warn{background:#d9a521;color:#16191d} .bad{background:#c62a2f;color:#fff} .none{color:#8a94a6}
.legend{display:flex;flex-wrap:wrap;gap:1px 12px;max-height:49px;overflow:hidden;color:#444c58;font-size:11px}
.legend i{display:inline-block;width:9px;height:3px;margin-right:4px;vertical-align:middle}
table{border-collapse:collapse;width:100%} th,td{text-align:left;padding:2px 8px;border-top:1px solid #e6e9ee}
"""

# On an axis the value alone says enough.
_AXIS = {"reqps": "short", "ops": "short"}

Point = tuple[float, float]
Series = tuple[str, list[Point]]


def shown(value: float, unit: str) -> str:
    """A value in a panel's unit, as Grafana would put it."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    if unit == "percentunit":
        return f"{value * 100:.0f} %" if abs(value) >= 1 else f"{value * 100:.3g} %"
    if unit == "s":
        if abs(value) >= 3600:
            return f"{value / 3600:.3g} h" if abs(value) < 172800 else f"{value / 86400:.3g} d"
        return f"{value:.3g} s" if abs(value) >= 1 else f"{value * 1000:.3g} ms"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            suffix = {"bytes": "B", TOKENS_S: " tok/s"}.get(unit, "")
            return f"{value / size:.3g} {letter}{suffix}"
    return f"{value:.3g}" + {"reqps": " req/s", "ops": " /s", TOKENS_S: " tok/s"}.get(unit, "")


class Prometheus:
    """Its HTTP API, over the last `seconds`."""

    def __init__(self, url: str, seconds: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)
        self._end = time.time()
        self._seconds = seconds

    def range(self, expr: str, legend: str) -> list[Series]:
        """Lines over the whole time."""
        step = max(1.0, self._seconds / 240)
        found = self._ask("query_range", expr, start=self._end - self._seconds, end=self._end, step=step)
        return [
            (_label(legend, each["metric"]), [(float(at), float(value)) for at, value in each["values"]])
            for each in found
        ]

    def now(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Samples at the end of it."""
        return [(each["metric"], float(each["value"][1])) for each in self._ask("query", expr, time=self._end)]

    def _ask(self, path: str, expr: str, **parameters: float) -> list[dict[str, Any]]:
        expr = substituted(
            expr.replace("$__range_s", str(int(self._seconds))).replace("$__range", f"{int(self._seconds)}s")
        )
        reply = self._client.get(f"/api/v1/{path}", params={"query": expr, **parameters})
        reply.raise_for_status()
        result: list[dict[str, Any]] = reply.json()["data"]["result"]
        return result


def page(dashboard: Mapping[str, Any], prometheus: Prometheus) -> str:
    """The whole dashboard as HTML."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * _ROW_HEIGHT
    body = "".join(_placed(panel, prometheus) for panel in panels)
    return (
        f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><h1>{html.escape(dashboard['title'])}</h1>"
        f'<div class="board" style="height:{height}px">{body}</div>'
    )


def _placed(panel: Mapping[str, Any], prometheus: Prometheus) -> str:
    at = panel["gridPos"]
    style = (
        f"left:{at['x'] * _CELL}px;top:{at['y'] * _ROW_HEIGHT}px;"
        f"width:{at['w'] * _CELL}px;height:{at['h'] * _ROW_HEIGHT}px"
    )
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class="row" style="{style}">{title}</div>'
    draw_panel = {"stat": _figure, "table": _table, "timeseries": _graph, "heatmap": _heatmap}[panel["type"]]
    inner = draw_panel(panel, prometheus)
    return f'<div class="panel" style="{style}"><div class="box"><h2>{title}</h2>{inner}</div></div>'


def _unit(panel: Mapping[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def _figure(panel: Mapping[str, Any], prometheus: Prometheus) -> str:
    samples = prometheus.now(panel["targets"][0]["expr"])
    if not samples or math.isnan(samples[0][1]):
        return '<div class="big none">no data</div>'
    value = samples[0][1]
    colour = ""
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = {"green": "good", "yellow": "warn", "red": "bad", "blue": ""}[step["color"]]
    return f'<div class="big {colour}">{shown(value, _unit(panel))}</div>'


def _table(panel: Mapping[str, Any], prometheus: Prometheus) -> str:
    units = {each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]}
    columns = [target["legendFormat"] for target in panel["targets"]]
    rows: dict[str, dict[str, str]] = {}
    for target, column in zip(panel["targets"], columns, strict=True):
        for metric, value in prometheus.now(target["expr"]):
            key = metric.get("replica") or metric.get("team", "") + metric.get("key", "")
            rows.setdefault(key, {}).update(metric)
            rows[key][column] = shown(value, units.get(column, _unit(panel)))
    labels = sorted({name for row in rows.values() for name in row} - set(columns))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in [*labels, *columns])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(row.get(name, ''))}</td>" for name in [*labels, *columns]) + "</tr>"
        for row in rows.values()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _graph(panel: Mapping[str, Any], prometheus: Prometheus) -> str:
    series = [line for target in panel["targets"] for line in prometheus.range(target["expr"], target["legendFormat"])]
    series = [(name, points) for name, points in series if any(not math.isnan(value) for _, value in points)]
    if not series:
        return '<div class="none">no data</div>'
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    mode = custom.get("stacking", {}).get("mode", "none")
    unit = "percentunit" if mode == "percent" else _unit(panel)
    width, height = panel["gridPos"]["w"] * _CELL - 30, 148
    drawn = (
        _stacked(series, percent=mode == "percent")
        if mode in ("normal", "percent")
        else [(name, [(at, 0.0, value) for at, value in points]) for name, points in series]
    )
    times = [at for _, points in drawn for at, _, _ in points]
    first, last = min(times), max(max(times), min(times) + 1)
    top = max([high for _, points in drawn for _, _, high in points if not math.isnan(high)] + [1e-9]) * 1.05

    def place(at: float, value: float) -> str:
        return (
            f"{46 + (at - first) / (last - first) * (width - 50):.1f},{height - 16 - value / top * (height - 24):.1f}"
        )

    lines, legend = [], []
    for number, (name, points) in enumerate(drawn):
        colour = _COLOURS[number % len(_COLOURS)]
        solid = [(at, low, high) for at, low, high in points if not math.isnan(high)]
        path = " ".join(place(at, high) for at, _, high in solid)
        if mode != "none":
            back = " ".join(place(at, low) for at, low, _ in reversed(solid))
            lines.append(f'<polygon points="{path} {back}" fill="{colour}" opacity=".3"/>')
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        latest = solid[-1][2] - solid[-1][1]
        legend.append(
            f'<span><i style="background:{colour}"></i>{html.escape(name)} <b>{shown(latest, unit)}</b></span>'
        )
    grid = "".join(
        f'<line x1="46" x2="{width}" y1="{place(first, top * part / 4).split(",")[1]}" '
        f'y2="{place(first, top * part / 4).split(",")[1]}" stroke="#e6e9ee"/>'
        f'<text x="42" y="{float(place(first, top * part / 4).split(",")[1]) + 3}" text-anchor="end" font-size="10" '
        f'fill="#667080">{shown(top * part / 4, _AXIS.get(unit, unit))}</text>'
        for part in range(5)
    )
    clock = "".join(
        f'<text x="{x}" y="{height - 2}" text-anchor="{anchor}" font-size="10" fill="#667080">'
        f"{time.strftime('%H:%M:%S', time.localtime(at))}</text>"
        for x, anchor, at in ((46, "start", first), (width, "end", last))
    )
    svg = f'<svg width="{width}" height="{height}">{grid}{clock}{"".join(lines)}</svg>'
    return f'{svg}<div class="legend">{"".join(legend)}</div>'


def _heatmap(panel: Mapping[str, Any], prometheus: Prometheus) -> str:
    """Cells of a histogram over time, the darker the more values; buckets that nothing fell into are left out."""
    series = prometheus.range(panel["targets"][0]["expr"], "{{le}}")
    below: dict[float, float] = {}
    cells: list[tuple[str, dict[float, float]]] = []
    for bound, points in sorted(series, key=lambda each: float(each[0])):
        counts = {at: _number(value) - below.get(at, 0.0) for at, value in points}
        below.update((at, _number(value)) for at, value in points)
        cells.append((bound, counts))
    most = max((count for _, counts in cells for count in counts.values()), default=0.0)
    if most <= 0:
        return '<div class="none">no data</div>'
    filled = [number for number, (_, counts) in enumerate(cells) if max(counts.values()) > 0]
    shown_cells = cells[filled[0] : filled[-1] + 1]
    times = sorted({at for _, counts in shown_cells for at in counts})
    width, height = panel["gridPos"]["w"] * _CELL - 30, 168
    high, wide = (height - 20) / len(shown_cells), (width - 50) / max(1, len(times))
    unit = str(panel["options"]["yAxis"]["unit"])
    drawn = []
    for row, (bound, counts) in enumerate(reversed(shown_cells)):
        drawn.append(
            f'<text x="42" y="{row * high + 9:.1f}" text-anchor="end" font-size="9" fill="#667080">'
            f"{'more' if bound == '+Inf' else shown(float(bound), unit)}</text>"
        )
        drawn += [
            f'<rect x="{46 + times.index(at) * wide:.1f}" y="{row * high:.1f}" width="{wide + 0.3:.1f}" '
            f'height="{high - 1:.1f}" fill="#3457d5" opacity="{0.12 + 0.88 * count / most:.2f}"/>'
            for at, count in counts.items()
            if count > 0
        ]
    return f'<svg width="{width}" height="{height}">{"".join(drawn)}</svg>'


def _stacked(series: Sequence[Series], *, percent: bool) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """(time, lower edge, upper edge) of each series on top of those before."""
    values = [dict(points) for _, points in series]
    times = sorted({at for each in values for at in each})
    below = dict.fromkeys(times, 0.0)
    whole = {at: sum(_number(each.get(at)) for each in values) or 1.0 for at in times}
    drawn = []
    for (name, _), each in zip(series, values, strict=True):
        points = []
        for at in times:
            share = _number(each.get(at)) / (whole[at] if percent else 1.0)
            points.append((at, below[at], below[at] + share))
            below[at] += share
        drawn.append((name, points))
    return drawn


def _number(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value


def _label(legend: str, metric: Mapping[str, str]) -> str:
    for name, value in metric.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


async def draw(url: str, folder: Path, seconds: float) -> None:
    """Write NAME.png for each dashboard into `folder`, which is there."""
    prometheus = Prometheus(url, seconds)
    async with async_playwright() as playwright:
        # Our own pages only, and containers run it as root, whom the sandbox refuses.
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in generate.BUILDERS:
            sheet = await browser.new_page(viewport={"width": 1332, "height": 800})
            await sheet.set_content(page(generate.built(name), prometheus))
            await sheet.screenshot(path=folder / f"{name}.png", full_page=True)
        await browser.close()


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    asyncio.run(draw(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 600.0))
