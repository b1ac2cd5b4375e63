"""What README.md tells people to type works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one fenced block of that language with this text in it."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text)
    return str(found)


@pytest.mark.e2e
def test_the_first_curl(stack: Stack) -> None:
    command = block("sh", "curl").replace(":8000", f":{stack.port}")
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.mark.e2e
def test_the_first_python_call(stack: Stack) -> None:
    program = block("python", "OpenAI").replace(":8000", f":{stack.port}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    efforts = [line.split() for line in done.stdout.splitlines() if line.startswith(("low", "medium", "high"))]
    assert [effort for effort, _ in efforts] == ["low", "medium", "high"]
    tokens = [int(count) for _, count in efforts]
    assert 0 < tokens[0] < tokens[1] < tokens[2]


def test_the_settings_file_for_gpus(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(block("yaml", "gpt-oss-120b"))
    serving = str(Path(sys.executable).with_name("serving"))
    done = subprocess.run([serving, "check", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "gpt-oss-120b" in done.stdout


def test_every_make_target_named_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
