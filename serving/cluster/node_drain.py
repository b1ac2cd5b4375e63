"""Empties a Ray node before it goes: `python -m serving.cluster.node_drain --deadline SECONDS`, a pod's preStop hook.

Ray is told that the node will be gone after the deadline. Serve then starts replacements elsewhere, sends new requests
there and retires this node's replicas, each of which finishes its answers (graceful_shutdown_timeout_s). This returns
when no replica is left here, or at the deadline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from serving.cluster.run.console_scripts import console_script

REPLICA_TITLE = "ray::ServeReplica:"
"""How Ray titles the processes of Serve's replicas."""

_POLL_S = 1.0
_ASK_TIMEOUT_S = 30.0


def ask(deadline_s: int) -> str | None:
    """Tell Ray that this node goes; what it said where it refused or could not be reached, else None."""
    command = [str(console_script("ray")), "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    node = node_id(psutil.process_iter())
    if node is not None:
        command += ["--node-id", node]
    command += ["--reason-message", "its pod is being stopped", "--deadline-remaining-seconds", str(deadline_s)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()


def node_id(processes: Iterable[psutil.Process]) -> str | None:
    """The id that the raylet among `processes` was started with (ray/_private/services.py, start_raylet)."""
    for process in processes:
        for argument in _command_line(process):
            if argument.startswith("--node_id="):
                return argument.removeprefix("--node_id=")
    return None


def replicas(processes: Iterable[psutil.Process]) -> int:
    """Number of Serve's replicas among `processes`."""
    return sum(next(iter(_command_line(process)), "").startswith(REPLICA_TITLE) for process in processes)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def wait_until_empty(
    count: Callable[[], int], deadline_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> int:
    """Return 0 when `count` says so, or what is left at the deadline."""
    end = clock() + deadline_s
    while (left := count()) and clock() < end:
        sleep(_POLL_S)
    return left


def main() -> int:
    """Exit status 0: empty. 1: the deadline came first; the pod stops either way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--deadline", type=int, required=True, metavar="SECONDS", help="when the node will be gone")
    deadline: int = parser.parse_args().deadline
    started = time.monotonic()
    refusal = ask(deadline)
    if refusal is not None:
        # Its answers may finish all the same, for as long as HAProxy and the replicas live.
        _say(f"Ray was not told to drain this node: {refusal}")
    left = wait_until_empty(
        lambda: replicas(psutil.process_iter()), deadline - (time.monotonic() - started), time.monotonic, time.sleep
    )
    _say(f"{left} replicas are left after {time.monotonic() - started:.0f} s" if left else "no replica is left")
    return 1 if left else 0


def _say(line: str) -> None:
    """Write a line to the container's log, at best effort: a hook's own output goes nowhere."""
    text = f"node drain: {line}\n"
    try:
        Path("/proc/1/fd/1").write_text(text)
    except OSError:
        os.write(sys.stderr.fileno(), text.encode())


if __name__ == "__main__":
    sys.exit(main())
