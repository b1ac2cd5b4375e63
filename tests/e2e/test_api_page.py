"""The examples of docs/api.md, on the real stack."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.e2e
def test_the_python_examples_run_one_after_the_other(stack: Stack) -> None:
    program = "\n".join(PYTHON).replace("http://127.0.0.1:8000", stack.root)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("command", SHELL)
def test_the_commands_are_answered(stack: Stack, command: str) -> None:
    command = command.replace("http://127.0.0.1:8000", stack.root)
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True)
    assert "error" not in json.loads(done.stdout)
