"""`serving up` with engines that cannot start: it gives up after two equal failures, and says why."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.engine.start_failure import FIXES, OWN_FIX, StartFailureReason
from tests.e2e.conftest import Stack, starting, strays

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

END_S = 240.0


def started_in_vain(directory: Path, settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[Stack]:
    """A `serving up` that will end by itself."""
    config = directory / "serving.yaml"
    config.write_text(json.dumps(settings))  # YAML too
    return starting(directory, "--config", str(config), environment={"E2E_MARKER": str(directory)})


def expect_reason(output: str, reason: StartFailureReason, cause: str, fix: str) -> None:
    """The end of the output has the cause, what to do, and a log that is there."""
    assert "the engine did not start; trying again" in output
    end = output[output.index("error: ") :]
    assert "did not start, 2 times alike." in end, output
    assert cause in end, output
    assert f"reason: {reason}" in end
    assert f"fix: {fix}" in end
    log = next(line for line in end.splitlines() if line.startswith("log: ")).removeprefix("log: ")
    assert Path(log).is_file()
    assert "Traceback" not in output


def test_memory_that_the_machine_does_not_have_is_told_everywhere(tmp_path: Path) -> None:
    # Given a KV cache that no machine has room for, which vLLM's engine process finds out
    model = {"source": "demo", "engine_args": {"kv_cache_memory_bytes": 900_000_000_000_000}}
    seen: dict[str, Any] = {}
    counted = ""
    with started_in_vain(tmp_path, {"models": {"demo": model}}) as running:
        deadline = time.monotonic() + END_S
        # When it has failed once, and tries again
        while running.process.poll() is None:
            assert time.monotonic() < deadline, running.output()
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                seen = httpx.get(f"{running.root}/ready", timeout=5).json()["models"]["demo"]["start_failure"]
                counted = httpx.get(f"{running.root}/metrics", timeout=5).text or counted
            time.sleep(0.2)
        # Then whoever asks the server is told, too
        assert seen["reason"] == "out_of_memory"
        assert "less than requested memory for kv" in seen["message"]
        assert re.search(r'serving_engine_start_failures_total\{[^}]*reason="out_of_memory"[^}]*\} [12]', counted)
        # And it gives up
        assert running.process.returncode == 1
        expect_reason(running.output(), "out_of_memory", "is less than requested memory for kv", FIXES["out_of_memory"])
    assert strays(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("settings", "reason", "cause"),
    [
        (
            {"models": {"demo": {"source": "demo"}}, "cache_dir": "FOLDER/file"},
            "checkpoint",
            "CheckpointError: ",
        ),
        (
            {"models": {"demo": {"source": "demo"}}, "engine": "scripted", "script": "FOLDER/missing.jsonl"},
            "unsupported_argument",
            "SettingsError: script: cannot read",
        ),
    ],
    ids=["checkpoint", "script"],
)
def test_what_fails_before_vllm_is_told_likewise(
    settings: dict[str, Any], reason: StartFailureReason, cause: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    settings = json.loads(json.dumps(settings).replace("FOLDER", str(tmp_path)))
    with started_in_vain(tmp_path, settings) as running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(END_S)
        assert running.process.returncode == 1, running.output()
        expect_reason(running.output(), reason, cause, OWN_FIX)
