"""Nothing is left behind, only what was asked for is reachable, and a dead engine does not take the server along."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import OpenAI

from tests.e2e.conftest import Stack, starting, strays, wait_for_output

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
def test_an_interrupted_start_leaves_no_process(moment: str, number: signal.Signals, tmp_path: Path) -> None:
    # Given a start that has come this far, its processes marked by a variable that all of them inherit
    marker = str(tmp_path)
    with starting(tmp_path, environment={"E2E_MARKER": marker}) as stack:
        wait_for_output(stack, moment)
        assert strays(marker)
        # When it is interrupted
        status = stack.stop(number)
    # Then it says so in its status, and nothing is left
    assert status == 130
    assert strays(marker) == []


def test_an_address_in_use_is_refused_at_once(stack: Stack, tmp_path: Path) -> None:
    with starting(tmp_path, "--port", str(stack.port)) as second:
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


COUNT: dict[str, Any] = {"messages": [{"role": "user", "content": "Count from 1 to 100."}], "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"capital": {"type": "string"}},
    "required": ["capital"],
    "additionalProperties": False,
}
CAPITAL: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "response_format": {"type": "json_schema", "json_schema": {"name": "capital", "schema": SCHEMA, "strict": True}},
}


def counted(client: OpenAI, model: str, begun: threading.Event | None = None) -> tuple[str, str]:
    """Reasoning and content of a streamed answer of some hundred tokens."""
    said = {"reasoning": "", "content": ""}
    for chunk in client.chat.completions.create(model=model, stream=True, **COUNT):
        for field in said:
            said[field] += getattr(chunk.choices[0].delta, field, None) or ""
        if len(said["content"]) > 40 and begun is not None:
            begun.set()
    return said["reasoning"], said["content"]


def answer(client: OpenAI, model: str, fields: dict[str, Any]) -> str:
    return client.chat.completions.create(model=model, **fields).choices[0].message.content or ""


def test_answers_outlive_their_engine(stack: Stack, client: OpenAI) -> None:
    # Given an engine replica with its vLLM processes, in the middle of an answer
    undisturbed = counted(client, "demo")
    replica = replica_of(stack, "demo")
    children = replica.children(recursive=True)
    assert any("VLLM::" in " ".join(child.cmdline()) for child in children)
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        streamed = pool.submit(counted, client, "demo", begun)
        whole = pool.submit(answer, client, "demo", COUNT)
        assert begun.wait(60)
        # When the replica is killed
        replica.kill()
        # Then its vLLM processes go with it, and what is asked meanwhile waits for the next one
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
        late = pool.submit(answer, client, "demo", CAPITAL)
        wait_for_ready(stack, 503, 20)
        # While the other model answers
        assert answer(client, "demo-tp2", CAPITAL)
        # And every answer is what it would have been
        assert streamed.result(RECOVERY_S) == undisturbed
        assert whole.result(RECOVERY_S) == undisturbed[1]
        assert json.loads(late.result(RECOVERY_S)) == {"capital": "Paris"}
    metrics = httpx.get(f"{stack.root}/metrics", timeout=30).text
    assert re.search(r'serving_failovers_total\{[^}]*model="demo",outcome="resumed"[^}]*\} [1-9]', metrics)


def test_a_dead_engine_process_is_noticed_and_its_replica_replaced(stack: Stack, client: OpenAI) -> None:
    # Given a replica in the middle of an answer, whose engine is another process
    undisturbed = counted(client, "demo-tp2")
    replica = replica_of(stack, "demo-tp2")
    (core,) = (each for each in replica.children(recursive=True) if each.cmdline()[0].startswith("VLLM::EngineCore"))
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        streamed = pool.submit(counted, client, "demo-tp2", begun)
        assert begun.wait(60)
        # When only that process dies
        core.kill()
        # Then the model is not ready, Serve replaces the replica, and the answer goes on
        wait_for_ready(stack, 503, 30)
        assert streamed.result(RECOVERY_S) == undisturbed
    wait_for_ready(stack, 200, RECOVERY_S)
    assert not replica.is_running()


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
