"""Tests that are interrupted while their server starts leave no process of it behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import side_ports, strays

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
TEST = """
from tests.e2e.conftest import started

def test_it(tmp_path):
    with started(tmp_path):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_is_left_by_tests_that_are_stopped_while_it_starts(number: signal.Signals, tmp_path: Path) -> None:
    # Given tests whose server starts, its processes marked by a variable that all of them inherit
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").touch()
    environment = os.environ | side_ports() | {"E2E_MARKER": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider"]
    with (tmp_path / "log").open("wb") as log:
        tests = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        until_there(str(tmp_path), "gcs_server")
        # When they are stopped
        tests.send_signal(number)
        tests.wait(60)
    finally:
        tests.kill()
        tests.wait(10)
    # Then nothing is left; at once, unless they could not see to it themselves
    deadline = time.monotonic() + (0 if number == signal.SIGINT else 30)
    while (left := strays(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == [], (tmp_path / "log").read_text()


def until_there(marker: str, name: str) -> None:
    deadline = time.monotonic() + 120
    while not any(name in line for line in strays(marker)):
        assert time.monotonic() < deadline, "Ray did not start"
        time.sleep(0.05)
