"""One Ray and vLLM stack for most end-to-end tests: `serving up`, as a user runs it, stopped as a user stops it.

Tests of the shared stack come first. It is stopped before the next other test, which has the machine to itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from openai import OpenAI

from serving.cluster.run.environment import SIDE_PORTS
from serving.cluster.run.process_tree import die_with_parent

READY_S = 300.0
STOP_S = 60.0

SETTINGS = """
models:
  demo:
    source: demo
    aliases: [gpt-oss]
    lora: {}
  # The same weights, shared by two processes: what tensor parallelism is on a machine without GPUs.
  demo-tp2:
    source: demo
    tensor_parallel_size: 2
    adapters:
      pirate-tp2: {source: demo}
"""


_SHARED = pytest.StashKey[contextlib.ExitStack]()
"""Stops the shared stack."""


def side_ports() -> dict[str, str]:
    """Ports beside the API's for one server: two that start at the same time would both find Ray's usual ones free."""
    return {variable: str(free_port()) for variable in SIDE_PORTS}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests of the shared stack first."""
    config.stash[_SHARED] = contextlib.ExitStack()
    items.sort(key=_shares, reverse=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared stack before the first test of another one."""
    if not _shares(item):
        item.config.stash[_SHARED].close()


def _shares(item: pytest.Item) -> bool:
    return "stack" in getattr(item, "fixturenames", ())


def free_port() -> int:
    """A port that nobody listens on now.

    Not one of those that connections get: it would be taken before a server that starts slowly binds it.
    """
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Stack:
    """A running `serving up`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def root(self) -> str:
        """The server's address, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """It and everything below it."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextlib.contextmanager
def starting(directory: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """`serving up` with `flags`, which may end by itself; at the end of the block nothing of it is left.

    Its output goes to a file in `directory`. `environment` comes on top of ours.
    """
    running = _start(directory, *flags, environment=environment)
    try:
        yield running
    finally:
        _end(running.process)


def _start(directory: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Stack:
    port = free_port()
    log = directory / "up.log"
    command = [str(Path(sys.executable).with_name("serving")), "up", "--port", str(port), *flags]
    # A variable of the shell that runs the tests must not change what is tested.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "RAY_"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=inherited | side_ports() | dict(environment or {}),
            # Also when the tests are killed, or interrupted where no block is entered yet.
            preexec_fn=die_with_parent,
        )
    return Stack(process, port, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a `serving up` at once, with all that it has started: the second signal has it wait for nothing."""
    deadline = time.monotonic() + STOP_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        else:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)


@contextlib.contextmanager
def started(directory: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """What `starting` gives, ready; at the end it is stopped with Ctrl-C's signal, and has to say that all was well."""
    with starting(directory, *flags, environment=environment) as running:
        wait_for_output(running, "Ctrl-C stops it.")
        yield running
        status = running.stop() if running.process.poll() is None else running.process.returncode
        assert status == 0, running.output()


def wait_for_output(stack: Stack, text: str, seconds: float = READY_S) -> None:
    """Return when it has printed `text`; fail when it ends or takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while text not in stack.output():
        assert stack.process.poll() is None, f"serving up has ended:\n{stack.output()}"
        assert time.monotonic() < deadline, f"no {text!r} within {seconds} s:\n{stack.output()}"
        time.sleep(0.1)


def strays(marker: str) -> list[str]:
    """Command lines of Ray's, HAProxy's and vLLM's processes with `marker` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and marker in "\0".join(process.environ().values()):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The shared stack."""
    directory = tmp_path_factory.mktemp("stack")
    config = directory / "serving.yaml"
    config.write_text(SETTINGS)
    shared = pytestconfig.stash[_SHARED]
    with shared:
        yield shared.enter_context(started(directory, "--config", str(config)))


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[OpenAI]:
    """OpenAI's own client, which does not try again by itself."""
    with OpenAI(base_url=f"{stack.root}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client
