"""What the tests do on a machine without the programs that some of them run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

TESTS = """
import pytest
from tests.programs import program

def test_plain():
    pass

@pytest.mark.needs("chromium")
def test_marked(never_made):
    pass

@pytest.fixture
def never_made():
    pytest.fail("made in vain")

@pytest.fixture
def redis():
    return program("redis-server")

def test_with_a_fixture(redis):
    pass
"""


def run(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The tests above, where no program is on the path."""
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs: a program\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "TESTS_"))}
    environment |= {"PATH": str(tmp_path / "nothing"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "tests.programs", "-q", "-n", "1", "-c", "pytest.ini"]
    return subprocess.run(
        command, cwd=tmp_path, env=environment | variables, capture_output=True, text=True, timeout=120, check=False
    )


def test_without_a_program_the_run_passes_and_says_what_it_left_out(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout
    loud = [line for line in done.stdout.splitlines() if line.startswith("LEFT OUT: ")]
    assert loud == [
        "LEFT OUT: all tests that need redis-server, prometheus, promtool, chromium, node. "
        "To run them: apt-get install redis-server prometheus chromium nodejs"
    ]


def test_where_nothing_may_be_left_out_each_such_test_fails(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS_LEAVE_NOTHING_OUT="1")
    assert done.returncode == 1, done.stdout
    assert "needs chromium: apt-get install chromium" in done.stdout
    assert "needs redis-server: apt-get install redis-server" in done.stdout
    assert "made in vain" not in done.stdout
    assert "skipped" not in done.stdout


def test_under_make_only_make_says_it_and_once() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("-m tests.programs") == 1
    ci = (ROOT / ".ci" / "run").read_text()
    assert "export TESTS_LEAVE_NOTHING_OUT=1\n" in ci
    from tests.programs import _PROGRAMS

    for name in _PROGRAMS:
        assert f"command -v {name}" in ci or name == "prometheus"
