"""Report on a terminal: a column for each level, then the comparisons, then what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving_bench.compare_table import compared, style
from serving_bench.outcome import CHANNELS
from serving_bench.report import Comparison, Quantiles, Ratio, Report, RoleCpu, Run
from serving_bench.units import seconds, significant

_BUSY_CLIENT_CORES = 0.8
_LATE_S = 0.02
_LEAST_CORES = 0.005


def print_report(report: Report, console: Console) -> None:
    """Write it to `console`."""
    console.print(Group(*_parts(report)))


def _parts(report: Report) -> Iterator[RenderableType]:
    if report.settings.compare:
        yield from compared(report)
    else:
        yield from _each(report)
    yield from (Text(line) for line in notes(report))


def _each(report: Report) -> Iterator[RenderableType]:
    for target in report.targets:
        runs = [run for run in report.runs if run.target == target.name]
        if runs:
            yield Text(f"\n{target.name}: {target.url}, model {target.model}", style="bold")
            yield _run_table(runs)
    for comparison in report.comparisons:
        yield Text(
            f"\ntarget / {comparison.baseline}, {comparison.level}, order {comparison.order}: median of the rounds "
            "[95 % interval]",
            style="bold",
        )
        yield _ratio_table(comparison)


def _run_table(runs: Sequence[Run]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for run in runs:
        table.add_column(str(run.level), justify="right")
    for name, cells in _rows(runs):
        table.add_row(name, *cells)
    return table


def _rows(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    def row(name: str, cell: Callable[[Run], str]) -> tuple[str, list[str]]:
        return name, [cell(run) for run in runs]

    yield row("requests", lambda run: str(run.requests.completed))
    if any(run.requests.failed for run in runs):
        yield row("  failed", lambda run: str(run.requests.failed))
    if any(run.requests.interrupted for run in runs):
        yield row("  interrupted", lambda run: str(run.requests.interrupted))
    yield row("elapsed", lambda run: seconds(run.elapsed_s))
    yield row("requests/s", lambda run: significant(run.requests_per_s))
    yield row("tokens/s", lambda run: significant(run.tokens_per_s))
    for channel in CHANNELS:
        if any((run.tokens_per_s_by_channel or {}).get(channel) for run in runs):
            yield f"  {channel}", [_of_channel(run, channel) for run in runs]
    if any(run.chunks.count for run in runs):
        yield row("chunks/s", lambda run: significant(run.chunks.per_s))
        yield row("chunks/token", lambda run: significant(run.chunks.per_token))
    yield "p50 / p90 / p99", ["" for _ in runs]
    yield row("  first text (TTFT)", lambda run: _quantiles(run.latency.ttft))
    yield row("  first final token", lambda run: _quantiles(run.latency.ttft_final))
    yield row("  between chunks (ITL)", lambda run: _quantiles(run.latency.itl))
    yield row("  per token (TPOT)", lambda run: _quantiles(run.latency.tpot))
    yield row("  whole reply (E2E)", lambda run: _quantiles(run.latency.e2e))
    yield from _cpu_rows(runs)


def _cpu_rows(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    found: dict[tuple[str, str], None] = {(role.group, role.role): None for run in runs for role in run.cpu.roles}
    if found:
        yield "CPU us/token", ["" for _ in runs]
        yield "  front end", [significant(run.cpu.front_end_us_per_token) for run in runs]
    for group, name in found:
        if group in ("front end", "engine"):
            indent = "    " if group == "front end" else "  "
            costs = [role.us_per_token if (role := _role(run, name)) else None for run in runs]
            yield f"{indent}{name}", [significant(cost) for cost in costs]
    if any(group in ("upkeep", "other") for group, _ in found):
        yield "CPU cores beside it", [significant(run.cpu.upkeep_cores) for run in runs]
    for group, name in found:
        cores = [role.cpu_s / run.elapsed_s if (role := _role(run, name)) else None for run in runs]
        if group in ("upkeep", "other") and any(each is not None and each >= _LEAST_CORES for each in cores):
            yield f"  {name}", [significant(each) for each in cores]
    if any(run.cpu.idle_cores is not None for run in runs):
        yield "CPU cores while idle", [significant(run.cpu.idle_cores) for run in runs]
    yield "client, cores", [significant(run.client.cores) for run in runs]


def _role(run: Run, name: str) -> RoleCpu | None:
    return next((role for role in run.cpu.roles if role.role == name), None)


def _of_channel(run: Run, channel: str) -> str:
    return significant((run.tokens_per_s_by_channel or {}).get(channel))


def _quantiles(values: Quantiles) -> str:
    if not values.count:
        return "-"
    return " / ".join(seconds(value) for value in (values.p50, values.p90, values.p99))


def _ratio_table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "target", "baseline", "ratio", "95 % interval", "difference"):
        table.add_column(name, justify="left" if not name else "right")
    for ratio in comparison.ratios:
        name = ratio.metric.removesuffix(" s")
        table.add_row(name, *_ratio_cells(ratio), style=style(ratio))
    return table


def _ratio_cells(ratio: Ratio) -> list[str]:
    show = seconds if ratio.metric.endswith(" s") else significant
    sign = "+" if ratio.difference >= 0 else "-"
    return [
        show(ratio.target),
        show(ratio.baseline),
        f"{ratio.ratio:.3f}",
        f"{ratio.low:.3f} to {ratio.high:.3f}",
        f"{sign}{show(abs(ratio.difference))}",
    ]


def notes(report: Report) -> Iterator[str]:
    """Notes that a reader needs to trust the numbers, in sentences."""
    for run in report.runs:
        where = f"{run.target}, {run.level}"
        for failure in run.failures:
            example = f", for example: {failure.example}" if failure.example else ""
            yield f"error: {where}: {failure.count} x {failure.kind}{example}"
        if run.tokens.completion is None and run.requests.completed:
            yield f"note: {where}: the server tells no usage, so tokens are unknown; chunks are counted."
        elif run.tokens.replies_without_usage or run.tokens.estimated:
            yield f"note: {where}: {run.tokens.estimated} tokens are estimated from chunks (replies without usage)."
        if run.client.cores > _BUSY_CLIENT_CORES or (run.client.lag_p99_s or 0) > _LATE_S:
            yield (
                f"warning: {where}: the load generator used {run.client.cores:.2f} cores and woke up to "
                f"{seconds(run.client.lag_p99_s)} late (p99), so latencies are partly its own: this machine is too "
                "busy. Lower the load, or send it from another machine."
            )
    without_cpu = [] if report.settings.compare else [run for run in report.runs if run.cpu.missing]
    for why in sorted({f"{run.target}: {run.cpu.missing}" for run in without_cpu}):
        yield f"note: no CPU times of {why}."
    if report.interrupted:
        yield "note: interrupted; this is what there was until then."
