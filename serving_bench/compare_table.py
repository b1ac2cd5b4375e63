"""`serving bench --compare` on a terminal: one table of speed and errors, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from serving_bench.report import Quantiles, Ratio, Report, Run
from serving_bench.units import seconds, significant


@dataclass(frozen=True, slots=True)
class _Row:
    """One number of every model; `metric` is what serving_bench/ratios.py calls it, where that has it."""

    name: str
    cell: Callable[[Run], str]
    metric: str | None = None


_ROWS = (
    _Row("requests", lambda run: str(run.requests.completed)),
    _Row("errors", lambda run: _errors(run)),
    _Row("requests/s", lambda run: significant(run.requests_per_s), "requests/s"),
    _Row("tokens/s", lambda run: significant(run.tokens_per_s), "tokens/s"),
    _Row("first text (TTFT), p50 / p99", lambda run: _quantiles(run.latency.ttft), "TTFT p50 s"),
    _Row("first final token, p50 / p99", lambda run: _quantiles(run.latency.ttft_final), "first final token p50 s"),
    _Row("per token (TPOT), p50 / p99", lambda run: _quantiles(run.latency.tpot), "TPOT p50 s"),
    _Row("whole reply (E2E), p50 / p99", lambda run: _quantiles(run.latency.e2e), "E2E p50 s"),
)


def compared(report: Report) -> Iterator[RenderableType]:
    """Heading and table. Ratios are each model's over the first one's, over the rounds."""
    runs: dict[str, dict[str, Run]] = {}
    for run in report.runs:
        runs.setdefault(str(run.level), {})[run.target] = run
    if not runs:
        return
    models = [target.name for target in report.targets]
    yield Text(f"\n{report.targets[0].url}: speed and errors, not the answers' quality", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for model in models:
        table.add_column(Text(model), justify="right")
    for level, of_level in runs.items():
        table.add_row(Text(level, style="bold"), *("" for _ in models))
        ratios = {
            each.target: {ratio.metric: ratio for ratio in each.ratios}
            for each in report.comparisons
            if str(each.level) == level
        }
        for row in _ROWS:
            cells = [row.cell(of_level[model]) if model in of_level else "-" for model in models]
            table.add_row(f"  {row.name}", *cells)
            if any(row.metric in each for each in ratios.values()):
                over = [_ratio(ratios.get(model, {}).get(row.metric or "")) for model in models]
                table.add_row(Text(f"    over {models[0]} [95 %]"), *over)
    yield table


def style(ratio: Ratio) -> str:
    """Colour of a ratio whose interval leaves no doubt."""
    if ratio.better == "neither" or ratio.low <= 1 <= ratio.high:
        return ""
    return "green" if (ratio.low > 1) == (ratio.better == "higher") else "red"


def _ratio(ratio: Ratio | None) -> Text:
    if ratio is None:
        return Text("")
    return Text(f"{ratio.ratio:.2f} [{ratio.low:.2f} to {ratio.high:.2f}]", style=style(ratio))


def _errors(run: Run) -> str:
    failed, ended = run.requests.failed, run.requests.failed + run.requests.completed
    return f"{failed} ({failed / ended * 100:.1f} %)" if failed else "0"


def _quantiles(values: Quantiles) -> str:
    return f"{seconds(values.p50)} / {seconds(values.p99)}" if values.count else "-"
