from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serving.cluster.orphans import describe_orphans

ENGINE = "exec -a VLLM::Worker_TP0 sleep 60"


def test_an_engine_process_without_a_server_is_named_with_its_number(tmp_path: Path) -> None:
    # Given a process under an engine's name, whose parent ends at once
    number = tmp_path / "pid"
    parent = subprocess.run(["bash", "-c", f"({ENGINE}) & echo $! > {number}"], check=True, timeout=10)
    assert parent.returncode == 0
    orphan = psutil.Process(int(number.read_text()))
    try:
        deadline = time.monotonic() + 10
        while not orphan.cmdline()[0].startswith("VLLM::"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if orphan.ppid() != 1:
            pytest.skip("something other than init takes in orphans on this machine")
        # Then it is named
        (sentence,) = describe_orphans([orphan])
        assert "VLLM::Worker_TP0" in sentence
        assert f"kill {orphan.pid}" in sentence
    finally:
        orphan.kill()


def test_a_running_servers_engines_are_not_named() -> None:
    with subprocess.Popen(["bash", "-c", ENGINE]) as engine:
        try:
            assert describe_orphans([psutil.Process(engine.pid)]) == []
        finally:
            engine.kill()


def test_other_processes_are_not_named() -> None:
    assert describe_orphans([psutil.Process()]) == []
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        process = psutil.Process(gone.pid)
    assert describe_orphans([process]) == []
