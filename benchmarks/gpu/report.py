"""benchmarks/RESULTS-GPU.md from what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.gpu.cells import Cell
from benchmarks.gpu.measure import Findings
from benchmarks.gpu.servers import KINDS
from serving.engine.accelerator import Accelerator
from serving_bench.report import Machine, Ratio, Report, Run
from serving_bench.units import seconds, significant

RESULTS = Path(__file__).parents[1] / "RESULTS-GPU.md"

_LEAST_ROUNDS = 3
"""For an interval that says anything."""

_NAMES = {
    "ours": "this server",
    "python-1": "vLLM, 1 API server",
    "python-4": "vLLM, 4 API servers",
    "rust": "vLLM, Rust front end",
}

T = TypeVar("T")
Value = Callable[[Run], float | None]

_COMPARED: Sequence[tuple[str, str, Value]] = (
    ("tokens/s", "tokens/s", lambda run: run.tokens_per_s),
    ("requests/s", "requests/s", lambda run: run.requests_per_s),
    ("TTFT p50", "TTFT p50 s", lambda run: run.latency.ttft.p50),
    ("ITL p99", "ITL p99 s", lambda run: run.latency.itl.p99),
    ("E2E p50", "E2E p50 s", lambda run: run.latency.e2e.p50),
    ("front-end CPU us/token", "front-end CPU us/token", lambda run: run.cpu.front_end_us_per_token),
)
"""Column, name among the ratios of a report, and the value itself."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what it was measured."""

    command: str
    created: str
    machine: Machine
    accelerator: Accelerator
    versions: str
    checkpoint: str


def write(path: Path, conditions: Conditions, findings: Findings) -> None:
    """The page, and all figures beside it as JSON."""
    page = "\n".join(lines(conditions, findings))
    data = [
        {"kind": cell.kind, "streams": cell.streams, "report": report.model_dump(by_alias=True, mode="json")}
        for cell, report in findings.measured
    ]
    path.write_text(f"{page.rstrip()}\n", encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def lines(conditions: Conditions, findings: Findings) -> Iterator[str]:
    """The page."""
    card, machine = conditions.accelerator, conditions.machine
    memory = f", {card.memory_bytes / 2**30:.0f} GiB" if card.memory_bytes else ""
    driver = f", driver {card.driver}" if card.driver else ""
    yield "# Measured against vLLM's front ends"
    yield ""
    yield f"Written by `{conditions.command}` on {conditions.created}; do not edit."
    yield "[docs/benchmarking.md](../docs/benchmarking.md) says how; the JSON file beside this one has all figures."
    yield ""
    yield f"Device: {card.name}{memory}{driver}. Machine: {machine.cpu}, {machine.cores} cores,"
    yield f"{machine.memory_gb:g} GB, Python {machine.python}, {conditions.versions}."
    yield "The load generator shares it with the servers."
    yield f"Model: {conditions.checkpoint}."
    yield ""
    if findings.commands:
        yield "```sh"
        for kind, (command, start_s) in _by_kind(findings.commands):
            yield f"# {_NAMES[kind]}: ready after {start_s:.0f} s"
            yield command
        yield "```"
        yield ""
    if findings.interrupted:
        yield "Stopped before its end."
        yield ""
    yield from _ratios(findings)
    yield from _values(findings)
    yield from _missing(findings)


def _ratios(findings: Findings) -> Iterator[str]:
    pairs = list(_pairs(findings))
    if not pairs:
        return
    yield "## Ratios"
    yield ""
    if findings.apart:
        yield "The first server's value over the other's. One server was up at a time, so there is no interval."
    else:
        yield "The first server's value over the other's: both up, in turns with the same requests, the median over"
        yield f"rounds, from {_LEAST_ROUNDS} rounds on with its 95 % interval (bootstrap)."
    yield ""
    columns = [name for name, _, _ in _COMPARED]
    yield f"| requests | streams | {' | '.join(('servers', *columns))} |"
    yield "|---|---:|---|" + "---:|" * len(columns)
    for cell, names, values in pairs:
        yield f"| {cell.words} | {cell.streams} | {' / '.join(names)} | {' | '.join(values)} |"
    yield ""


def _pairs(findings: Findings) -> Iterator[tuple[Cell, tuple[str, str], list[str]]]:
    if not findings.apart:
        for cell, report in findings.measured:
            for compared in report.comparisons:
                found = {ratio.metric: ratio for ratio in compared.ratios}
                values = [_with_interval(found[name]) if name in found else "-" for _, name, _ in _COMPARED]
                yield cell, (compared.target, compared.baseline), values
        return
    first: dict[tuple[str, int], Run] = {}
    for cell, report in findings.measured:
        for run in report.runs:
            reference = first.setdefault((cell.kind, cell.streams), run)
            if reference is not run:
                values = [_quotient(value(reference), value(run)) for _, _, value in _COMPARED]
                yield cell, (reference.target, run.target), values


def _with_interval(ratio: Ratio) -> str:
    if ratio.rounds < _LEAST_ROUNDS:
        return f"{ratio.ratio:.3f}"
    return f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _quotient(one: float | None, other: float | None) -> str:
    return f"{one / other:.3f}" if one is not None and other else "-"


def _values(findings: Findings) -> Iterator[str]:
    if not findings.measured:
        return
    yield "## Values"
    yield ""
    columns = [name for name, _, _ in _COMPARED]
    yield f"| requests | streams | server | {' | '.join(columns)} | chunks/token | failed |"
    yield "|---|---:|---|" + "---:|" * (len(columns) + 2)
    for cell, report in findings.measured:
        for run in report.runs:
            yield f"| {cell.words} | {cell.streams} | {run.target} | {' | '.join(_cells(run))} |"
    yield ""
    yield from _failures([report for _, report in findings.measured])


def _cells(run: Run) -> Iterator[str]:
    for _, name, value in _COMPARED:
        yield (seconds if name.endswith(" s") else significant)(value(run))
    yield significant(run.chunks.per_token)
    yield str(run.requests.failed)


def _failures(reports: Sequence[Report]) -> Iterator[str]:
    found = [(run, failure) for report in reports for run in report.runs for failure in run.failures]
    for run, failure in found:
        yield f"- {run.target}, {run.level}: {failure.count} times {failure.kind}: {failure.example}"
    if found:
        yield ""


def _missing(findings: Findings) -> Iterator[str]:
    if not findings.failed and not findings.left_out:
        return
    yield "## Not measured"
    yield ""
    for line in findings.left_out:
        yield f"- {line}"
    if findings.left_out:
        yield ""
    for kind, why in _by_kind(findings.failed):
        first, _, rest = why.partition("\n")
        yield f"{_NAMES[kind]}: {first}"
        yield ""
        if rest:
            yield from ("```", rest, "```", "")


def _by_kind(found: dict[str, T]) -> list[tuple[str, T]]:
    return sorted(found.items(), key=lambda item: [str(kind) for kind in KINDS].index(item[0]))
