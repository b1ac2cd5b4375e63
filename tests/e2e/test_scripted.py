"""The script player under Ray Serve, and what Ctrl-C does to an answer that is being given."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from openai import OpenAI

from tests.e2e.conftest import start, strays, wait_for_output

WORDS = " ".join(str(number) for number in range(100))

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_ctrl_c_lets_a_running_answer_finish_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server that plays a script, slowly
    script = tmp_path / "script.jsonl"
    completion = (
        f"<|channel|>analysis<|message|>Count.<|end|><|start|>assistant<|channel|>final<|message|>{WORDS}<|return|>"
    )
    script.write_text(json.dumps({"completion": completion, "tokens_per_step": 1, "step_ms": 20}))
    marker = str(tmp_path)
    monkeypatch.setenv("E2E_MARKER", marker)
    stack = start(tmp_path, "--engine", "scripted", "--script", str(script))
    wait_for_output(stack, "Ctrl-C stops it.")
    # When it is interrupted in the middle of an answer
    with OpenAI(base_url=f"{stack.root}/v1", api_key="unused", max_retries=0) as client:
        content = ""
        for chunk in client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Count."}], stream=True
        ):
            if not content and chunk.choices[0].delta.content:
                stack.process.send_signal(signal.SIGINT)
            content += chunk.choices[0].delta.content or ""
    # Then the answer is whole, the exit status says all is well, and no process is left
    assert content == WORDS
    assert stack.process.wait(60) == 0, stack.output()
    assert "waiting for 1 running answer" in stack.output()
    assert strays(marker) == []
