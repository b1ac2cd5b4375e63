"""What `helm test` runs, against the whole application on the scripted engine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager

import pytest

from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.tree import Settings
from tests.deploy.conftest import CHART
from tests.http_server import in_thread

THINKS = "<|channel|>analysis<|message|>A question.<|end|>"
ANSWERS = f"{THINKS}<|start|>assistant<|channel|>final<|message|>Because of Rayleigh scattering.<|return|>"


def serving(completion: str) -> AbstractContextManager[str]:
    """The application's base URL."""
    engine = ScriptedEngine(Script((ScriptLine(completion=completion),)), model="demo", max_model_len=4096)
    return in_thread(Settings(), engine)


def smoke(base: str, **further: str) -> subprocess.CompletedProcess[str]:
    """As the pod runs it; -S: with nothing but the standard library."""
    environment = {"BASE_URL": base, "METRICS_URL": f"{base}/metrics", "MODEL": "demo", "READY_S": "5"}
    return subprocess.run(
        [sys.executable, "-S", str(CHART / "files" / "smoke.py")],
        env={"PATH": os.environ["PATH"]} | environment | further,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_service_that_works_passes() -> None:
    with serving(ANSWERS) as base:
        done = smoke(base)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answer: Because of Rayleigh scattering." in done.stdout
    assert done.stdout.endswith("PASSED\n")


@pytest.mark.parametrize(
    ("completion", "further", "message"),
    [
        (ANSWERS, {"MODEL": "gpt-4o"}, "answered 404"),
        (ANSWERS, {"METRICS_URL": "http://127.0.0.1:1/metrics"}, "Connection refused"),
        (f"{THINKS}<|return|>", {}, "no final channel"),
        (ANSWERS.removeprefix(THINKS + "<|start|>assistant"), {}, "no analysis channel"),
    ],
    ids=["model", "metrics", "answer", "reasoning"],
)
def test_what_does_not_work_is_named(completion: str, further: dict[str, str], message: str) -> None:
    with serving(completion) as base:
        done = smoke(base, **further)
    assert done.returncode != 0
    assert "FAILED" in done.stderr
    assert message in done.stderr


def test_one_that_never_gets_ready_is_named() -> None:
    done = smoke("http://127.0.0.1:1", READY_S="0")
    assert done.returncode == 1
    assert "is not ready after 0 s" in done.stderr
