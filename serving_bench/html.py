"""Report as one page that needs nothing else: curves, tables, and the JSON it was made of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from html import escape

from rich.console import Console

from serving_bench.chart import Chart, Line
from serving_bench.report import Quantiles, Report, Run
from serving_bench.table import print_report
from serving_bench.units import seconds, significant

_TABLE_WIDTH = 160

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem;color:#0f172a;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}
figure{margin:0;border:1px solid #e2e8f0;border-radius:6px;padding:.6rem}figcaption{font-weight:600}
figure p{margin:.2rem 0 0;font-size:.8rem}figure span{margin-right:1em;white-space:nowrap}
svg{width:100%;height:auto}
svg.key{width:24px;height:6px;vertical-align:middle}
svg text{font-size:11px;fill:currentColor}.grid{stroke:#94a3b8;stroke-opacity:.35}
pre{overflow-x:auto;font-size:.8rem;line-height:1.35}
@media(prefers-color-scheme:dark){body{background:#0f172a;color:#e2e8f0}figure{border-color:#334155}}
"""


def to_html(report: Report) -> str:
    """Page of a report."""
    charts = "".join(chart.svg() for chart in [*_over_levels(report.runs), *_over_time(report.runs)])
    targets = ", ".join(f"{target.name} {target.url} ({target.model})" for target in report.targets)
    machine = report.machine
    where = f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.system}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>serving bench</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style><h1>serving bench</h1><p>{escape(targets)}<br>{escape(report.created)}, "
        f"gpt-oss-serving {escape(report.version)}, load from {escape(where)}</p>"
        f'<div class="charts">{charts}</div><h2>Numbers</h2><pre>{escape(_tables(report))}</pre>'
        f"<h2>Data</h2><details><summary>JSON, {escape(report.schema_)}</summary>"
        f"<pre>{escape(report.model_dump_json(by_alias=True, indent=1))}</pre></details></html>\n"
    )


def _tables(report: Report) -> str:
    console = Console(width=_TABLE_WIDTH, color_system=None, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        print_report(report, console)
    return captured.get().strip("\n")


def _over_levels(runs: Sequence[Run]) -> Iterator[Chart]:
    closed = [run for run in runs if run.level.mode == "closed"]
    if len({run.level.concurrency for run in closed}) < 2:
        return
    yield _by_concurrency("Tokens/s", closed, lambda run: run.tokens_per_s, significant)
    yield _by_concurrency("Requests/s", closed, lambda run: run.requests_per_s, significant)
    for title, pick in _LATENCIES.items():
        yield Chart(title, "streams", list(_quantile_lines(closed, pick)), seconds, log_x=True, log_y=True)
    yield _by_concurrency("Front-end CPU us/token", closed, lambda run: run.cpu.front_end_us_per_token, significant)


def _over_time(runs: Sequence[Run]) -> Iterator[Chart]:
    timed = [(f"{run.target}, {run.level}", run.timeline) for run in runs if run.timeline is not None]

    def lines(values: Callable[..., Sequence[float | None]]) -> list[Line]:
        return [
            Line(name, [(at + 0.5) * timeline.step_s for at in range(len(values(timeline)))], values(timeline), color)
            for color, (name, timeline) in enumerate(timed)
        ]

    x = "seconds"
    yield Chart("Tokens/s over time", x, lines(lambda timeline: timeline.tokens_per_s), significant)
    yield Chart("Complete requests/s over time", x, lines(lambda timeline: timeline.requests_per_s), significant)
    yield Chart("Requests under way", x, lines(lambda timeline: timeline.in_flight), significant)
    yield Chart("First text (TTFT), median", x, lines(lambda timeline: timeline.ttft_p50), seconds)
    if any(any(timeline.errors) for _, timeline in timed):
        yield Chart("Errors", x, lines(lambda timeline: timeline.errors), significant)


_LATENCIES: dict[str, Callable[[Run], Quantiles]] = {
    "First text (TTFT)": lambda run: run.latency.ttft,
    "First final token": lambda run: run.latency.ttft_final,
    "Between chunks (ITL)": lambda run: run.latency.itl,
    "Whole reply (E2E)": lambda run: run.latency.e2e,
}


def _by_concurrency(
    title: str, runs: Sequence[Run], value: Callable[[Run], float | None], show: Callable[[float], str]
) -> Chart:
    lines = [
        Line(target, _concurrencies(mine), [value(run) for run in mine], color)
        for color, (target, mine) in enumerate(_by_target(runs))
    ]
    return Chart(title, "streams", lines, show, log_x=True)


def _quantile_lines(runs: Sequence[Run], pick: Callable[[Run], Quantiles]) -> Iterator[Line]:
    several = len({run.target for run in runs}) > 1
    for color, (target, mine) in enumerate(_by_target(runs)):
        for name, dashes in (("p50", ""), ("p90", "6 3"), ("p99", "2 3")):
            label = f"{target} {name}" if several else name
            value = operator.attrgetter(name)
            yield Line(label, _concurrencies(mine), [value(pick(run)) for run in mine], color, dashes)


def _concurrencies(runs: Sequence[Run]) -> list[float]:
    return [float(run.level.concurrency or 0) for run in runs]


def _by_target(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    for target in dict.fromkeys(run.target for run in runs):
        mine = [run for run in runs if run.target == target]
        yield target, sorted(mine, key=lambda run: run.level.concurrency or 0)
