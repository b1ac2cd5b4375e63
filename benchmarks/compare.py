"""`make bench`: start the servers, measure them in turns, write benchmarks/RESULTS.md, leave no process behind."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks import results
from benchmarks.measure import FULL, QUICK, Interrupted, against_bare, front_end
from benchmarks.servers import nothing_left
from serving.errors import ServingError
from serving_bench.machine import this_machine

_WIDTH = 140


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure serving up against bare vLLM and write RESULTS.md.")
    parser.add_argument("--quick", action="store_true", help="about 13 minutes instead of 30")
    parser.add_argument("--logs", type=Path, help="keep the servers' logs in this folder")
    arguments = parser.parse_args()
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH)
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    extent = QUICK if arguments.quick else FULL
    try:
        with tempfile.TemporaryDirectory() as scratch, nothing_left():
            folder = arguments.logs or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            comparison = against_bare(extent, folder, console)
            front_ends = front_end(extent, folder, console)
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt):
        print("stopped; benchmarks/RESULTS.md is as it was", file=sys.stderr)
        return 130
    command = "make bench QUICK=1" if arguments.quick else "make bench"
    for path in results.write(this_machine(), comparison, front_ends, command):
        print(f"wrote {path}")
    return 0


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
