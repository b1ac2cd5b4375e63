from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# Starts a grandchild in a session of its own that ignores SIGTERM, writes its id, and does as argument 1 says.
COMMAND = """
import os, subprocess, sys, time
grandchild = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
    start_new_session=True,
)
open(sys.argv[2], "w").write(str(grandchild.pid))
if sys.argv[1] == "able":
    import signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.write(int(sys.argv[3]), b"r")
if sys.argv[1] != "end":
    time.sleep(600)
sys.exit(7)
"""

SUPERVISE = """
import sys
from serving.cluster.run.process_tree import Supervisor
sys.exit(Supervisor().run([sys.executable, "-c", *sys.argv[1:]], b"", {}))
"""


def supervise(how: str, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SUPERVISE, COMMAND, how, str(file)])


def grandchild(file: Path) -> psutil.Process:
    deadline = time.monotonic() + 20
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return psutil.Process(int(file.read_text()))


def test_what_a_command_leaves_is_ended_and_its_status_passed_on(tmp_path: Path) -> None:
    supervisor = supervise("end", tmp_path / "pid")
    assert supervisor.wait(20) == 7
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_it_can_stop_by_itself_ends_all(number: signal.Signals, tmp_path: Path) -> None:
    supervisor = supervise("unable", tmp_path / "pid")
    left = grandchild(tmp_path / "pid")
    os.kill(supervisor.pid, number)
    assert supervisor.wait(20) == 130
    assert not left.is_running()


def test_a_signal_afterwards_lets_it_stop_by_itself(tmp_path: Path) -> None:
    supervisor = supervise("able", tmp_path / "pid")
    left = grandchild(tmp_path / "pid")
    os.kill(supervisor.pid, signal.SIGINT)
    # Whether the byte had come by then is a race that both ends of are right; all must be gone either way.
    assert supervisor.wait(20) in (0, 130)
    assert not left.is_running()
