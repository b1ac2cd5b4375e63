"""benchmarks/RESULTS.md and benchmarks/results.json from what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import REPLY_TOKENS, STEP_MS, Comparison, FrontEnd
from benchmarks.scale_model import Costs, Fleet, Model, markdown
from serving_bench.report import Comparison as Ratios
from serving_bench.report import Machine, Ratio, Report, Run
from serving_bench.units import seconds, significant

HERE = Path(__file__).parent
_COMPARED = (
    "tokens/s",
    "front-end CPU us/token",
    "TTFT p50 s",
    "first final token p50 s",
    "ITL p50 s",
    "ITL p99 s",
    "TPOT p50 s",
    "E2E p50 s",
    "chunks/token",
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What issue 4 asks for at one level: a ratio to bare vLLM, a difference in seconds, or a value of our own."""

    words: str
    streams: int
    metric: str
    limit: float
    higher: bool = False
    kind: Literal["ratio", "difference", "value"] = "ratio"

    def reached(self, ratio: Ratio) -> bool:
        """By the median."""
        value = {"ratio": ratio.ratio, "difference": ratio.difference, "value": ratio.target}[self.kind]
        return value >= self.limit if self.higher else value <= self.limit


GOALS = (
    Goal("front-end CPU/token, 32 streams, <= 0.9 of bare vLLM's", 32, "front-end CPU us/token", 0.9),
    Goal("tokens/s, 32 streams, >= 0.97 of bare vLLM's", 32, "tokens/s", 0.97, higher=True),
    Goal("first text, one stream, <= bare vLLM's + 4 ms", 1, "TTFT p50 s", 0.004, kind="difference"),
)
EVERY_TOKEN_GOALS = (
    Goal("without pacing: front-end CPU/token, 32 streams, <= bare vLLM's", 32, "front-end CPU us/token", 1.0),
    Goal("without pacing: chunks/token, 32 streams, >= 0.9", 32, "chunks/token", 0.9, higher=True, kind="value"),
)
UPKEEP_GOAL_CORES = 0.1
CONTROLLER = "Serve controller"
REPLICAS = 2
"""Of the smallest stack: an ingress and an engine."""
MANY_STREAMS = 32


def write(
    machine: Machine, comparison: Comparison, front_ends: Sequence[FrontEnd], command: str, folder: Path = HERE
) -> tuple[Path, Path]:
    """The two files' paths."""
    costs = measured_costs(comparison, front_ends)
    text = "\n".join(_page(machine, comparison, front_ends, costs, command)) + "\n"
    results, data = folder / "RESULTS.md", folder / "results.json"
    results.write_text(text, encoding="utf-8")
    data.write_text(json.dumps(_data(comparison, front_ends, costs), indent=1) + "\n", encoding="utf-8")
    return results, data


def measured_costs(comparison: Comparison, front_ends: Sequence[FrontEnd]) -> Costs:
    """What the model of many engines starts from."""
    ours = {run.level.concurrency or 0: run for run in comparison.report.runs if run.target == "target"}
    one, many = ours[min(ours)], ours[max(streams for streams in ours if streams <= MANY_STREAMS)]
    short = next(run for run in comparison.requests.runs if run.target == "target")
    fewest = min(front_ends, key=lambda each: each.ingress_replicas)
    most = max(front_ends, key=lambda each: each.ingress_replicas)
    further = most.ingress_replicas - fewest.ingress_replicas
    growth = most.idle.upkeep.get(CONTROLLER, 0.0) - fewest.idle.upkeep.get(CONTROLLER, 0.0)
    controller = comparison.idle.upkeep.get(CONTROLLER, 0.0)
    idle = comparison.idle.front_end
    tokens, token = short.tokens.completion or 0, many.cpu.front_end_us_per_token or 0.0
    return Costs(
        ingress_us_per_token=_cost(many, "ingress replica", idle),
        engine_replica_us_per_token=_cost(many, "engine replica", idle),
        haproxy_us_per_token=_cost(many, "HAProxy", idle),
        one_stream_us_per_token=_cost(one, "ingress replica", idle) + _cost(one, "engine replica", idle),
        many_streams=many.level.concurrency or 1,
        request_us=max(0.0, (short.cpu.front_end_us_per_token or 0.0) - token) * tokens / short.requests.completed,
        controller_cores=controller,
        # With one size alone: all of it shared between an ingress and an engine, which is too much.
        controller_cores_per_replica=max(0.0, growth) / further if further else controller / REPLICAS,
        replicas=REPLICAS,
    )


def _cost(run: Run, role: str, idle: Mapping[str, float]) -> float:
    """CPU us/token beyond what the role's processes use without load."""
    used = sum(each.cpu_s for each in run.cpu.roles if each.role == role)
    return max(0.0, used - idle.get(role, 0.0) * run.elapsed_s) / (run.tokens.completion or 1) * 1e6


def _data(comparison: Comparison, front_ends: Sequence[FrontEnd], costs: Costs) -> dict[str, Any]:
    return {
        "costs": dataclasses.asdict(costs),
        "idle_cores": dataclasses.asdict(comparison.idle),
        "comparison": comparison.report.model_dump(by_alias=True, mode="json"),
        "requests": comparison.requests.model_dump(by_alias=True, mode="json"),
        "every_token": (
            comparison.every_token.model_dump(by_alias=True, mode="json") if comparison.every_token else None
        ),
        "front_end": [
            {
                "ingress_replicas": each.ingress_replicas,
                "idle_cores": dataclasses.asdict(each.idle),
                "report": each.report.model_dump(by_alias=True, mode="json"),
            }
            for each in front_ends
        ],
    }


def _page(
    machine: Machine, comparison: Comparison, front_ends: Sequence[FrontEnd], costs: Costs, command: str
) -> Iterator[str]:
    yield "# Measured"
    yield ""
    yield f"Written by `{command}` on {comparison.report.created}; do not edit. What the numbers mean is in"
    yield "[docs/benchmarking.md](../docs/benchmarking.md); results.json has all of them."
    yield ""
    yield f"Machine: {machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.system},"
    yield f"Python {machine.python}. The load generator shares it with the servers."
    yield ""
    yield from _against(comparison)
    yield from _front_end_tables(front_ends)
    yield from _fleet(costs)


def _against(comparison: Comparison) -> Iterator[str]:
    report = comparison.report
    yield "## Against bare vLLM's API server"
    yield ""
    yield "The embedded demo model, equal engine settings, both servers up, measured in turns with the same requests."
    yield f"Temperature 0, streams, low, medium and high effort in equal shares, replies cut at {REPLY_TOKENS} tokens."
    yield "Ratio = ours / bare vLLM, the median over rounds with its 95 % interval (bootstrap)."
    yield ""
    yield "```sh"
    yield f"{_shortened(comparison.ours.command)}   # ready after {comparison.ours.start_s:.0f} s"
    yield f"{_shortened(comparison.bare.command)}   # ready after {comparison.bare.start_s:.0f} s"
    yield "```"
    yield ""
    yield from _goals(comparison)
    yield from _levels(report, "")
    if comparison.every_token is not None:
        yield from _levels(comparison.every_token, ", without pacing (frames.pace_ms 0)")
    yield "### Replies of 8 tokens, 32 at a time: the price of a request"
    yield ""
    for each in comparison.requests.comparisons:
        yield from _ratio_table(each, ("requests/s", "front-end CPU us/token", "TTFT p50 s", "E2E p50 s"))
    yield ""


def _levels(report: Report, remark: str) -> Iterator[str]:
    for each in report.comparisons:
        yield f"### {each.level}{remark}"
        yield ""
        yield f"Order of rounds: {each.order} (A ours, B bare)."
        yield ""
        yield from _ratio_table(each)
        yield ""
        yield from _cpu_table([run for run in report.runs if run.level == each.level])


def _goals(comparison: Comparison) -> Iterator[str]:
    yield "| goal | measured | |"
    yield "|---|---|---|"
    for goal in GOALS:
        yield _goal_row(goal, comparison.report)
    for goal in EVERY_TOKEN_GOALS:
        yield _goal_row(goal, comparison.every_token)
    idle = comparison.idle
    verdict = "reached" if idle.upkeep_cores <= UPKEEP_GOAL_CORES else "missed"
    dearest_first = sorted(idle.upkeep.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{name} {cores:.3f}" for name, cores in dearest_first)
    yield f"| Ray's own upkeep, idle, <= {UPKEEP_GOAL_CORES} core | {idle.upkeep_cores:.3f} ({parts}) | {verdict} |"
    yield ""


def _goal_row(goal: Goal, report: Report | None) -> str:
    found = [
        ratio
        for each in (report.comparisons if report is not None else ())
        if each.level.concurrency == goal.streams
        for ratio in each.ratios
        if ratio.metric == goal.metric
    ]
    if not found:
        return f"| {goal.words} | not measured | |"
    (ratio,) = found
    if goal.kind == "difference":
        interval = f"{ratio.difference_low * 1000:+.1f} to {ratio.difference_high * 1000:+.1f}"
        value = f"{ratio.difference * 1000:+.1f} ms ({interval})"
    elif goal.kind == "value":
        value = f"{ratio.target:.3f}"
    else:
        value = f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    return f"| {goal.words} | {value} | {'reached' if goal.reached(ratio) else 'missed'} |"


def _ratio_table(comparison: Ratios, metrics: Sequence[str] = _COMPARED) -> Iterator[str]:
    yield "| | ours | bare vLLM | ratio | 95 % | difference |"
    yield "|---|---:|---:|---:|---:|---:|"
    for ratio in comparison.ratios:
        if ratio.metric in metrics:
            show = seconds if ratio.metric.endswith(" s") else significant
            sign = "+" if ratio.difference >= 0 else "-"
            cells = (
                ratio.metric.removesuffix(" s"),
                show(ratio.target),
                show(ratio.baseline),
                f"{ratio.ratio:.3f}",
                f"{ratio.low:.3f} to {ratio.high:.3f}",
                f"{sign}{show(abs(ratio.difference))}",
            )
            yield f"| {' | '.join(cells)} |"


def _cpu_table(runs: Sequence[Run]) -> Iterator[str]:
    names = {run.target: "ours" if run.target == "target" else "bare vLLM" for run in runs}
    yield "| CPU us/token | " + " | ".join(names[run.target] for run in runs) + " |"
    yield "|---|" + "---:|" * len(runs)
    roles = dict.fromkeys(
        (role.group, role.role) for run in runs for role in run.cpu.roles if role.group in ("front end", "engine")
    )
    for group, name in roles:
        cells = [next((role.us_per_token for role in run.cpu.roles if role.role == name), None) for run in runs]
        if any(cell is not None and cell >= 0.5 for cell in cells):
            yield f"| {name} ({group}) | " + " | ".join(significant(cell) for cell in cells) + " |"
    yield "| Ray's upkeep, cores | " + " | ".join(significant(run.cpu.upkeep_cores) for run in runs) + " |"
    yield "| load generator, us/chunk | " + " | ".join(significant(run.client.us_per_chunk) for run in runs) + " |"
    yield ""


def _front_end_tables(front_ends: Sequence[FrontEnd]) -> Iterator[str]:
    yield "## The front end alone"
    yield ""
    yield f"The scripted engine plays one token a stream every {STEP_MS:g} ms, whatever the load, so tokens/s say what"
    yield "was asked for as long as nothing saturates. CPU is of the processes a token passes through."
    yield ""
    yield "```sh"
    yield f"{_shortened(front_ends[0].running.command)}"
    yield "```"
    yield ""
    yield f"| {' | '.join(_FRONT_END_COLUMNS)} |"
    yield "|" + "---:|" * len(_FRONT_END_COLUMNS)
    for each in front_ends:
        for run in each.report.runs:
            yield "| " + " | ".join(_front_end_cells(each, run)) + " |"
    yield ""


_FRONT_END_COLUMNS = (
    "ingress replicas",
    "streams",
    "chunks/s",
    "chunks/token",
    "CPU us/chunk",
    "ingress",
    "engine replica",
    "HAProxy",
    "ITL p50",
    "ITL p99",
    "TTFT p50",
    "idle upkeep, cores",
)


def _front_end_cells(each: FrontEnd, run: Run) -> Iterator[str]:
    yield str(each.ingress_replicas)
    yield str(run.level.concurrency)
    yield significant(run.chunks.per_s)
    yield significant(run.chunks.per_token)
    seconds_used = sum(role.cpu_s for role in run.cpu.roles if role.group == "front end")
    chunks = run.chunks.count or 1
    yield significant(seconds_used / chunks * 1e6)
    for role in ("ingress replica", "engine replica", "HAProxy"):
        used = sum(found.cpu_s for found in run.cpu.roles if found.role == role)
        yield significant(used / chunks * 1e6)
    yield seconds(run.latency.itl.p50)
    yield seconds(run.latency.itl.p99)
    yield seconds(run.latency.ttft.p50)
    yield f"{each.idle.upkeep_cores:.3f}"


def _fleet(costs: Costs) -> Iterator[str]:
    yield "## A model of many engines"
    yield ""
    yield "Computed from the figures above by `python -m benchmarks.scale_model` (its `--help` lists what is assumed);"
    yield "not measured at that size."
    yield ""
    yield "| measured input | |"
    yield "|---|---:|"
    for field in dataclasses.fields(costs):
        yield f"| {field.name} | {getattr(costs, field.name):.4g} |"
    yield ""
    yield markdown(Model(costs, Fleet()))


def _shortened(command: str) -> str:
    """Without the folders of one machine."""
    words = command.split(" ")
    return " ".join(_short_word(word) for word in words)


def _short_word(word: str) -> str:
    if word.startswith("/"):
        return Path(word).name
    return word
