"""The measurements: against bare vLLM, the price of a request, and the front end on the scripted engine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.servers import MODEL, Running, bare_vllm, openmp_threads, serving_up
from serving_bench.cpu import CpuMeter
from serving_bench.lengths import Lengths
from serving_bench.live import LiveProgress
from serving_bench.report import Report
from serving_bench.runner import Load
from serving_bench.session import Plan, Server
from serving_bench.start import measure
from serving_bench.table import print_report
from serving_bench.target import parse_target
from serving_bench.workload import Workload

WORKLOAD = Workload(
    prompt=Lengths("uniform", 16, 64),
    shared_prefix=0.5,
    reply=Lengths("fixed", 200),
    effort=(("low", 1), ("medium", 1), ("high", 1)),
    temperature=0.0,
    seed=1,
)
"""Every reply is cut at 200 tokens, so that both servers do the same work."""

SHORT = Workload(reply=Lengths("fixed", 8), effort=(("low", 1),), temperature=0.0, seed=2)
"""What a request costs beside its tokens. Harmony's first three have no text yet."""

STEP_MS = 100.0
REPLY_TOKENS = 200
SCRIPTED_TOKENS = 100
"""Ten seconds of a stream."""
MOST_STREAMS = 1024
"""Places in the scripted engine: more than are ever asked for, so that none waits for one."""
_SETTLE_S = 20.0
_IDLE_S = 15.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    requests: Mapping[int, int]
    """Requests a round at each concurrency."""
    rounds: int
    streams: Sequence[int]
    """Of the scripted engine."""
    ingress_replicas: Sequence[int]
    seconds: float
    """Each scripted run."""
    every_token: bool
    """Also without pacing, which takes another start."""


FULL = Extent({1: 12, 8: 48, 32: 128, 128: 256}, 6, (1, 32, 128, 256, 512), (1, 2, 4), 12.0, every_token=True)
QUICK = Extent({1: 12, 32: 64}, 4, (32, 512), (1, 4), 11.0, every_token=True)


@dataclass(frozen=True, slots=True)
class Idle:
    """A stack of ours without load: cores by role."""

    upkeep: Mapping[str, float]
    """Ray's own."""
    front_end: Mapping[str, float]

    @property
    def upkeep_cores(self) -> float:
        """All of it."""
        return sum(self.upkeep.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours and bare vLLM in turns."""

    report: Report
    requests: Report
    """Short replies, 32 at a time."""
    every_token: Report | None
    """With frames.pace_ms 0, 32 streams; None where it was not measured."""
    ours: Running
    bare: Running
    idle: Idle


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """The scripted engine behind some number of ingress replicas."""

    ingress_replicas: int
    report: Report
    running: Running
    idle: Idle


class Interrupted(Exception):
    """Ctrl-C during a measurement; what there was has been printed."""


def against_bare(extent: Extent, folder: Path, console: Console) -> Comparison:
    """Both servers up at once on the demo model, measured in turns."""
    with ExitStack() as servers:
        console.print("starting serving up on the demo model")
        first = servers.enter_context(ExitStack())
        ours = first.enter_context(serving_up({"models": {MODEL: {}}}, folder / "serving-up.log"))
        console.print(f"ready after {ours.start_s:.0f} s; starting bare vLLM")
        bare = servers.enter_context(bare_vllm(folder / "bare-vllm.log", openmp_threads(ours)))
        console.print(f"ready after {bare.start_s:.0f} s")
        idle = _idle(ours)
        both = [_server(ours, "target"), _server(bare, "baseline")]
        loads = [Load(concurrency=streams, requests=count) for streams, count in extent.requests.items()]
        report = _run(Plan(both, WORKLOAD, loads, rounds=extent.rounds, warm_up=16), console)
        short = [Load(concurrency=32, requests=256)]
        requests = _run(Plan(both, SHORT, short, rounds=max(2, extent.rounds // 2), warm_up=16), console)
        first.close()
        every_token = _every_token(extent, bare, folder, console) if extent.every_token else None
        return Comparison(report, requests, every_token, ours, bare, idle)


def _every_token(extent: Extent, bare: Running, folder: Path, console: Console) -> Report:
    """Ours without pacing, so that a token is a chunk wherever the ingress keeps up."""
    console.print("starting serving up with frames.pace_ms 0")
    settings = {"models": {MODEL: {}}, "frames": {"pace_ms": 0}}
    with serving_up(settings, folder / "every-token.log") as ours:
        time.sleep(_SETTLE_S)
        both = [_server(ours, "target"), _server(bare, "baseline")]
        loads = [Load(concurrency=32, requests=extent.requests[32])]
        return _run(Plan(both, WORKLOAD, loads, rounds=extent.rounds, warm_up=16), console)


def front_end(extent: Extent, folder: Path, console: Console) -> Sequence[FrontEnd]:
    """The scripted engine, for the cost of the front end alone at many streams."""
    script = folder / "script.jsonl"
    text = "word " * SCRIPTED_TOKENS
    completion = f"<|channel|>final<|message|>{text}<|return|>"
    script.write_text(json.dumps({"completion": completion, "tokens_per_step": 1, "step_ms": STEP_MS}))
    found = []
    for replicas in extent.ingress_replicas:
        console.print(f"starting serving up on the scripted engine, ingress replicas: {replicas}")
        settings = {
            "engine": "scripted",
            "script": str(script),
            "ingress_replicas": replicas,
            "models": {MODEL: {"max_num_seqs": MOST_STREAMS}},
        }
        with serving_up(settings, folder / f"scripted-{replicas}.log") as running:
            idle = _idle(running)
            loads = [Load(concurrency=streams, seconds=extent.seconds) for streams in extent.streams]
            plan = Plan([_server(running, "target")], Workload(seed=3), loads, warm_up=16)
            found.append(FrontEnd(replicas, _run(plan, console), running, idle))
    return found


def _idle(running: Running) -> Idle:
    """Measured once what a start leaves to do is done."""
    time.sleep(_SETTLE_S)
    meter = CpuMeter("127.0.0.1", parse_target(running.url, "", "").port)
    meter.start()
    began = time.monotonic()
    time.sleep(_IDLE_S)
    elapsed = time.monotonic() - began
    used = meter.stop()
    upkeep, front = (
        {name: role.seconds / elapsed for name, role in used.items() if role.group == group}
        for group in ("upkeep", "front end")
    )
    return Idle(upkeep, front)


def _server(running: Running, name: str) -> Server:
    return Server(parse_target(running.url, name, name), MODEL)


def _run(plan: Plan, console: Console) -> Report:
    report = measure(plan, LiveProgress(console))
    print_report(report, console)
    if report.interrupted:
        raise Interrupted
    return report
