"""Nothing is left behind, only what was asked for is reachable, and a dead engine does not take the server along."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Stack, start, strays, wait_for_output

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RECOVERY_S = 240.0


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Ray: starting", signal.SIGINT),
        ("Ray Serve: starting", signal.SIGTERM),
        ("demo: importing vLLM", signal.SIGINT),
        ("demo: starting the engine", signal.SIGHUP),
    ],
)
def test_an_interrupted_start_leaves_no_process(
    moment: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a start that has come this far, its processes marked by a variable that all of them inherit
    marker = str(tmp_path)
    monkeypatch.setenv("E2E_MARKER", marker)
    stack = start(tmp_path)
    monkeypatch.delenv("E2E_MARKER")
    wait_for_output(stack, moment)
    assert strays(marker)
    # When it is interrupted
    status = stack.stop(number)
    # Then it says so in its status, and nothing is left
    assert status == 130
    assert strays(marker) == []


def test_an_address_in_use_is_refused_at_once(stack: Stack, tmp_path: Path) -> None:
    second = start(tmp_path, "--port", str(stack.port))
    assert second.process.wait(30) == 2
    assert f"{stack.port} is in use" in second.output()


def test_loopback_means_loopback(stack: Stack) -> None:
    # Given all that the stack listens on
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in stack.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert stack.port in {port for _, port in listening}
    # Then all of it is bound to 127.0.0.1
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    # And from another address of this machine nothing answers
    for other in {"127.0.0.2", own_address()}:
        for _, port in listening:
            with socket.socket() as probe:
                probe.settimeout(2)
                assert probe.connect_ex((other, port)) != 0, f"{other}:{port} answers"


def own_address() -> str:
    """The address that this machine shows to others; 127.0.0.2 where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        address: str = probe.getsockname()[0]
        return address


def test_a_dead_engine_is_an_honest_error_and_is_replaced(stack: Stack) -> None:
    # Given an engine replica and its vLLM processes
    body = {"model": "demo", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 200}
    url = f"{stack.root}/v1/chat/completions"
    replica = replica_of(stack, "demo")
    children = replica.children(recursive=True)
    assert any("VLLM::" in " ".join(child.cmdline()) for child in children)
    # When the replica is killed
    replica.kill()
    # Then its vLLM processes go with it
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    # And as soon as that is noticed requests are refused in OpenAI's form, told when to come back
    wait_for_ready(stack, 503, 20)
    refused = httpx.post(url, json=body, timeout=60)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "engine_not_ready"
    assert int(refused.headers["retry-after"]) > 0
    # While the other model answers all the time, and this one again once its replica is replaced
    assert httpx.post(url, json=body | {"model": "demo-tp2"}, timeout=60).status_code == 200
    wait_for_ready(stack, 200, RECOVERY_S)
    reply = httpx.post(url, json=body, timeout=60)
    assert reply.json()["choices"][0]["message"]["content"]


def test_a_dead_engine_process_is_noticed_and_its_replica_replaced(stack: Stack) -> None:
    # Given a replica whose engine is another process
    replica = replica_of(stack, "demo-tp2")
    (core,) = (each for each in replica.children(recursive=True) if each.cmdline()[0].startswith("VLLM::EngineCore"))
    # When only that process dies
    core.kill()
    # Then the model is not ready, and Serve, told so by the health check, replaces the replica
    wait_for_ready(stack, 503, 30)
    wait_for_ready(stack, 200, RECOVERY_S)
    assert not replica.is_running()
    body = {"model": "demo-tp2", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 200}
    assert httpx.post(f"{stack.root}/v1/chat/completions", json=body, timeout=60).status_code == 200


def wait_for_ready(stack: Stack, status: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (reply := httpx.get(f"{stack.root}/ready", timeout=30)).status_code != status:
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.2)


def replica_of(stack: Stack, model: str) -> psutil.Process:
    (replica,) = (
        process
        for process in stack.processes()
        if " ".join(process.cmdline()).startswith("ray::ServeReplica") and process_serves(process, model)
    )
    return replica


def process_serves(process: psutil.Process, model: str) -> bool:
    return " ".join(process.cmdline()).split(" ")[0].endswith(f":engine-{model}")
