"""Starts the servers to be compared, waits until they answer, and ends every process of them."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.cluster.run.process_tree import end_descendants
from serving.demo.checkpoint import ensure_checkpoint
from serving.engine.accelerator import probe
from serving.engine.device import installed_device, thread_binding
from serving.engine.vllm.plan import engine_arguments
from serving.errors import BenchError
from serving.settings.models import ModelSettings
from serving_bench.processes import ROLES, command_line, role_of, server_processes

MODEL = "demo"
READY_S = 300.0
_POLL_S = 0.5
_STOP_S = 90.0
_PR_SET_CHILD_SUBREAPER = 36
_LOG_LINES = 25
_ONLY_ON = ("disable_log_stats",)
"""Arguments whose flag has no `--no-` form."""


@dataclass(frozen=True)
class Running:
    """A server that answers at `url`, and the command that started it."""

    url: str
    command: str
    start_s: float


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever was started inside is gone afterwards, also when it has lost its parent."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise BenchError("this system does not let a process adopt orphans (prctl PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        end_descendants()


def openmp_threads(running: Running) -> str | None:
    """OMP_NUM_THREADS as the server's engine found it when it began, and torch with it; None when it was not set.

    Ray sets it for its workers, to 1 for an engine that asks for less than two CPUs.
    """
    for process in server_processes(urlsplit(running.url).port or 0):
        role = role_of(command_line(process), ROLES)
        if role is not None and role.group == "engine":
            return process.environ().get("OMP_NUM_THREADS")
    raise BenchError(f"no engine is to be found below the server at {running.url}")


@contextmanager
def bare_vllm(log: Path, threads: str | None) -> Iterator[Running]:
    """vLLM's own API server on the demo, its engine as that of `serving up`: the same arguments, `threads` and cores.

    Torch takes its number of threads from OMP_NUM_THREADS, and on few cores one and two differ several times.
    """
    port = free_port()
    chosen = engine_arguments(MODEL, str(ensure_checkpoint()), ModelSettings(), probe())
    arguments = {name: each.value for name, each in chosen.items()}
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
        *flags(arguments),
        # What vLLM's recipe for gpt-oss says, and no line in a log for each request: ours writes none either.
        *("--reasoning-parser", "openai_gptoss", "--tool-call-parser", "openai", "--enable-auto-tool-choice"),
        "--disable-uvicorn-access-log",
    ]
    environment = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if installed_device() == "cpu":
        environment["VLLM_CPU_OMP_THREADS_BIND"] = thread_binding(1, sorted(os.sched_getaffinity(0)))
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    with _started(command, environment, f"http://127.0.0.1:{port}", "/health", log) as running:
        yield running


@contextmanager
def serving_up(settings: Mapping[str, Any], log: Path) -> Iterator[Running]:
    """`serving up` with a settings file that is written beside `log`."""
    port = free_port()
    config = log.with_suffix(".json")
    # JSON is YAML.
    config.write_text(json.dumps({**settings, "port": port}))
    command = [str(Path(sys.executable).with_name("serving")), "up", "--config", str(config)]
    with _started(command, {}, f"http://127.0.0.1:{port}", "/ready", log) as running:
        yield running


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], url: str, ready: str, log: Path
) -> Iterator[Running]:
    # A variable of this shell must not change what is measured.
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "RAY_", "VLLM_"))
    }
    began = time.monotonic()
    with process_of(command, inherited | dict(environment), log) as process:
        _wait(process, f"{url}{ready}", log)
        words = " ".join([*(f"{name}={value}" for name, value in environment.items()), shlex.join(command)])
        yield Running(url, words, time.monotonic() - began)


@contextmanager
def process_of(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to `log`; whatever became of it, it is stopped at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C is for us; we stop it in our own time.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            why = f"ended with status {process.returncode}" if process.returncode is not None else "is not ready"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise BenchError(f"{shlex.join(map(str, process.args))} {why}; its last lines:\n{tail}")  # type: ignore[arg-type]  # args is a list here
        time.sleep(_POLL_S)


def answers(url: str) -> bool:
    """Whether something there answers with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def flags(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Arguments of AsyncEngineArgs as flags of vLLM's command line."""
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is False and name in _ONLY_ON:
            continue
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
