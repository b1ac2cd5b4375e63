"""The other ways to start: `make serve`, and `serving up` on a Ray cluster that runs already."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI

from serving.cluster.run.process_tree import die_with_parent
from tests.e2e.conftest import Stack, free_port, side_ports, started, strays, wait_for_output

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
COMPLETION = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"completion": COMPLETION}))
    return path


def said(root: str) -> str | None:
    with OpenAI(base_url=f"{root}/v1", api_key="unused", max_retries=0) as client:
        reply = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello?"}])
    return reply.choices[0].message.content


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="make serve would install into .venv first: make install-dev")
def test_make_serve_answers_on_the_port_that_is_asked_for_and_stops_with_ctrl_c(tmp_path: Path, script: Path) -> None:
    # Given make serve in a terminal
    port, log = free_port(), tmp_path / "make.log"
    environment = os.environ | side_ports() | {"SERVING_PORT": str(port), "E2E_MARKER": str(tmp_path)}
    with log.open("wb") as out:
        make = subprocess.Popen(
            ["make", "serve", f"ARGS=--engine scripted --script {script}"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        wait_for_output(Stack(make, port, log), "Ctrl-C stops it.")
        # Then it answers, and the curl that it prints is for that port
        assert said(f"http://127.0.0.1:{port}") == "Hello."
        assert f"curl http://127.0.0.1:{port}/v1/chat/completions" in log.read_text()
    finally:
        # When the terminal's Ctrl-C comes, which everything in it receives
        os.killpg(make.pid, signal.SIGINT)
        make.wait(60)
    # Then nothing is left
    assert strays(str(tmp_path)) == []


@pytest.fixture
def ray_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Ray cluster of one node that asks for a token, and that somebody else has started."""
    monkeypatch.setenv("E2E_MARKER", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    port = free_port()
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--include-dashboard=false"),
        *(f"--port={port}", f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"),
        *("--node-ip-address=127.0.0.1", "--object-store-memory=134217728", "--disable-usage-stats"),
    ]
    log = tmp_path / "ray.log"
    with log.open("wb") as out:
        head = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
    try:
        deadline = time.monotonic() + 60
        while b"Ray runtime started." not in log.read_bytes():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield head, f"127.0.0.1:{port}"
    finally:
        processes = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        head.wait(30)


def test_a_running_ray_cluster_is_joined_and_left_as_it_was(
    ray_head: tuple[subprocess.Popen[bytes], str], script: Path, tmp_path: Path
) -> None:
    # Given a Ray cluster that runs already
    head, address = ray_head
    # When a server starts on it
    token = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    flags = ("--ray-address", address, "--engine", "scripted", "--script", str(script))
    with started(tmp_path, *flags, environment=token) as running:
        # Then it answers
        assert said(running.root) == "Hello."
    # And when it has stopped, its application is gone, and the cluster is still there
    assert httpx.get(f"{running.root}/v1/models", timeout=5).status_code == 404
    assert head.poll() is None
