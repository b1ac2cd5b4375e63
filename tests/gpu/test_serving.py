"""A whole server on a GPU, from the first answer to Ctrl-C: one start for all, in the order of this file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.e2e.conftest import Stack, strays
from tests.gpu.conftest import GIB, MODEL, client_of, engine_core, forced_texts, served, used_bytes, write_settings

STREAMS = 32
RECOVERY_S = 240.0
FREED_S = 20.0
SLACK = 1 * GIB
"""What contexts of a driver and others may take beside a model."""

RAY_LOGS = Path("/tmp/ray/session_latest/logs")
COMPILED = re.compile(r"(compilation|autotuning)[^\n]* during inference: ")
"""What vLLM's monitor warns of (vllm/utils/jit_monitor.py)."""

ASKED: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
# Every answer to it is short, whatever the weights prefer.
SCHEMA = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def empty() -> int:
    """Device memory in use before anything has started."""
    return used_bytes()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, empty: int) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("serving")
    settings = write_settings(folder, checkpoint, engine_args={"enable_sleep_mode": True})
    with served(folder, settings) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with client_of(stack) as client:
        yield client


def streamed(client: OpenAI, begun: threading.Event | None = None) -> tuple[str, str]:
    said = {"reasoning": "", "content": ""}
    for chunk in client.chat.completions.create(stream=True, **ASKED):
        for field in said:
            said[field] += getattr(chunk.choices[0].delta, field, None) or ""
        if len(said["reasoning"]) > 40 and begun is not None:
            begun.set()
    return said["reasoning"], said["content"]


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_it_answers_in_every_effort(client: OpenAI, effort: Any) -> None:
    reply = client.chat.completions.create(reasoning_effort=effort, **ASKED)
    message = reply.choices[0].message
    assert (getattr(message, "reasoning", None), message.content) == forced_texts()
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens >= 500


def test_a_stream_is_the_whole_answer(client: OpenAI) -> None:
    assert streamed(client) == forced_texts()


def test_a_schema_is_kept(client: OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True}}
    reply = client.chat.completions.create(response_format=wanted, **ASKED)
    assert json.loads(reply.choices[0].message.content or "").keys() == {"sure"}


def test_a_tool_is_called(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "decide", "parameters": SCHEMA, "strict": True}}
    reply = client.chat.completions.create(tools=[tool], tool_choice="required", **ASKED)
    calls: Any = reply.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["decide"]
    assert json.loads(calls[0].function.arguments).keys() == {"sure"}


def test_sleep_gives_memory_back_and_waking_takes_it_again(stack: Stack, client: OpenAI) -> None:
    # Given an awake model
    awake = used_bytes()
    with httpx.Client(base_url=stack.root, timeout=120) as admin:
        # When it sleeps
        slept = admin.post(f"/admin/models/{MODEL}/sleep?wait=true")
        assert slept.status_code == 200, slept.text
        # Then its weights and its cache have left the device
        until(lambda: used_bytes() < awake - 12 * GIB, FREED_S, "memory of a sleeping model")
        # And they come back
        woken = admin.post(f"/admin/models/{MODEL}/wake?wait=true")
        assert woken.status_code == 200, woken.text
    assert abs(used_bytes() - awake) < 2 * GIB
    assert streamed(client) == forced_texts()


def test_changed_settings_are_taken_without_a_failed_request(
    stack: Stack, client: OpenAI, checkpoint: Path, tmp_path: Path
) -> None:
    # Given requests all the time
    stop = threading.Event()

    def keep_asking() -> int:
        answered = 0
        while not stop.is_set():
            assert streamed(client) == forced_texts()
            answered += 1
        return answered

    changed = write_settings(
        tmp_path, checkpoint, engine_args={"enable_sleep_mode": True}, reasoning={"default_effort": "high"}
    )
    command = [str(Path(sys.executable).with_name("serving")), "up", "--update", "--port", str(stack.port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "RAY_"))}
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking) for _ in range(8)]
        try:
            # When the settings are changed
            update = subprocess.run(
                [*command, "--config", str(changed)],
                env=inherited,
                capture_output=True,
                text=True,
                check=False,
                timeout=RECOVERY_S,
            )
        finally:
            stop.set()
        # Then nobody notices
        assert sum(each.result(RECOVERY_S) for each in asking) >= 8
    assert update.returncode == 0, update.stdout + update.stderr
    reply = client.chat.completions.with_raw_response.create(**ASKED)
    assert reply.headers["x-reasoning-effort"] == "high"


def test_answers_outlive_a_killed_engine_whose_memory_is_free_for_the_next(
    stack: Stack, client: OpenAI, empty: int
) -> None:
    # Given many answers under way
    begun = [threading.Event() for _ in range(STREAMS)]
    core = engine_core(stack)
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = [pool.submit(streamed, client, event) for event in begun]
        assert all(event.wait(60) for event in begun)
        # When the process that holds the GPU is killed
        core.kill()
        # Then what it held is free, before the next one has loaded anything
        until(lambda: used_bytes() < empty + SLACK, FREED_S, "memory of a killed engine")
        # And every answer is what it would have been
        assert {answer.result(RECOVERY_S) for answer in answers} == {forced_texts()}
    assert engine_core(stack).pid != core.pid


def test_nothing_is_compiled_once_the_model_is_ready(stack: Stack) -> None:
    logs = [stack.log, *(path for path in RAY_LOGS.rglob("*") if path.is_file())]
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines() if COMPILED.search(line)]
    assert lines == []


def test_ctrl_c_leaves_no_process_and_no_memory(stack: Stack, empty: int) -> None:
    assert stack.stop() == 0, stack.output()
    assert strays(str(stack.log.parent)) == []
    until(lambda: used_bytes() < empty + SLACK // 4, FREED_S, "memory after Ctrl-C")
