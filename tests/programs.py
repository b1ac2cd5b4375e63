"""Programs beside Python that some tests run: which there are, how to install them, and what happens without one.

A test says `@pytest.mark.needs("chromium")`, a fixture calls `program("redis-server")`. Where a program is missing, the
test is left out, and the last line of the run says so. With TESTS_LEAVE_NOTHING_OUT=1 the test fails instead.

usage: python -m tests.programs   (prints that line, where something is missing)
"""

from __future__ import annotations

import os
import shutil
import sys

import pytest

# By name: other names of the same program, and the package of Debian and Ubuntu.
_PROGRAMS = {
    "redis-server": ((), "redis-server"),
    "prometheus": ((), "prometheus"),
    "promtool": ((), "prometheus"),
    "chromium": (("chromium-browser", "google-chrome"), "chromium"),
    "node": ((), "nodejs"),
}


def find(name: str) -> str | None:
    """Path of the program, None where it is missing."""
    others, _ = _PROGRAMS[name]
    return next((path for each in (name, *others) if (path := shutil.which(each))), None)


def program(name: str) -> str:
    """Path of the program; without it, the test that runs now is left out, or fails where nothing may be left out."""
    if (path := find(name)) is not None:
        return path
    reason = f"needs {name}: apt-get install {_PROGRAMS[name][1]}"
    if os.environ.get("TESTS_LEAVE_NOTHING_OUT", "") not in ("", "0"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def left_out() -> str | None:
    """Line that says what is left out on this machine and how to install it; None where all programs are there."""
    missing = [name for name in _PROGRAMS if find(name) is None]
    if not missing:
        return None
    packages = dict.fromkeys(_PROGRAMS[name][1] for name in missing)
    return f"LEFT OUT: all tests that need {', '.join(missing)}. To run them: apt-get install {' '.join(packages)}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave the test out before its fixtures are made."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            program(name)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the line; under make, which runs pytest several times, make prints it after the last of them."""
    line = left_out()
    if line is not None and "MAKELEVEL" not in os.environ:
        terminalreporter.write_line(line, red=True, bold=True)


if __name__ == "__main__":
    if (line := left_out()) is not None:
        print(f"\033[1;31m{line}\033[0m" if sys.stdout.isatty() else line)  # noqa: T201  # this is a command
