"""Engines that die, are retired or are replaced under load, and a server that is stopped: no answer may notice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.conftest import Stack, started, strays

pytestmark = [pytest.mark.e2e]

MARKER = "E2E_MARKER"
"""A variable that all processes of the server inherit."""

KILLS = 10
STREAMS = 64

NEXT = "<|end|><|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
CALL = '<|channel|>commentary to=functions.look <|constrain|>json<|message|>{"at": "%s"}<|call|>'
WORDS = " ".join(f"word{number}" for number in range(200))
SCRIPT = [
    {
        "prompt_contains": "story",
        "completion": f"{ANALYSIS}Thinking {WORDS}{NEXT}{FINAL}Once 🦥 {WORDS}<|return|>",
        "step_ms": 4,
    },
    {
        "prompt_contains": "look",
        "completion": f"{ANALYSIS}I should look. {WORDS}{NEXT}<|channel|>commentary<|message|>One moment."
        f"{NEXT}{CALL % WORDS}",
        "step_ms": 4,
    },
    {"completion": f"{FINAL}Hello.<|return|>"},
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


WAYS = ("connection", "call")
"""frames.requests: how requests come to the engines."""


def write_settings(directory: Path, replicas: int, way: str, **reasoning: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / "script.jsonl"
    script.write_text("\n".join(map(json.dumps, SCRIPT)))
    settings = directory / "serving.yaml"
    model = {"replicas": {"min": replicas}, "reasoning": reasoning}
    frames = {"requests": way}
    settings.write_text(
        json.dumps({"engine": "scripted", "script": str(script), "models": {"demo": model}, "frames": frames})
    )
    return settings


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, way: str) -> Iterator[Stack]:
    """Three scripted engines behind one ingress."""
    directory = tmp_path_factory.mktemp("failover")
    settings = write_settings(directory, 3, way)
    with started(directory, "--config", str(settings), environment={MARKER: str(directory)}) as running:
        yield running


@pytest.fixture
async def client(group: Stack) -> Any:
    async with AsyncOpenAI(base_url=f"{group.root}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


def engine_replicas(stack: Stack) -> list[psutil.Process]:
    return [process for process in stack.processes() if "engine-demo" in " ".join(process.cmdline())]


async def ask(client: AsyncOpenAI, kind: str) -> dict[str, Any]:
    """The whole of an answer, however it was asked for."""
    content = "Tell me a story." if kind.startswith("story") else "Have a look."
    fields: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "n": 2 if kind == "story twice" else 1,
    }
    if content == "Have a look.":
        fields["tools"] = TOOLS
    if "whole" in kind:
        reply = await client.chat.completions.create(**fields)
    else:
        async with client.chat.completions.stream(**fields, stream_options={"include_usage": True}) as stream:
            async for _ in stream:
                pass
            reply = await stream.get_final_completion()
    data: dict[str, Any] = json.loads(
        re.sub(r'"call_\w+"', '"call"', reply.model_dump_json(exclude={"id", "created", "object"}))
    )
    assert data["usage"] is not None
    for choice in data["choices"]:
        choice["message"].pop("channel", None)
        choice["message"].pop("parsed", None)
        for call in choice["message"].get("tool_calls") or ():
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
    return data


KINDS = ("story", "look", "story whole", "look whole", "story twice")


async def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
async def test_killed_engines_change_no_answer(group: Stack, client: AsyncOpenAI) -> None:
    # Given what each kind of request answers when nothing happens
    expected = {kind: await ask(client, kind) for kind in KINDS}
    killed = []
    for seed in range(KILLS):
        chance = random.Random(seed)
        await until(lambda: len(engine_replicas(group)) > 1, 60)
        # When an engine is killed at some moment under 64 requests of all kinds
        kinds = [chance.choice(KINDS) for _ in range(STREAMS)]
        asking = [asyncio.create_task(ask(client, kind)) for kind in kinds]
        await asyncio.sleep(chance.uniform(0.05, 1.5))
        victim = chance.choice(engine_replicas(group))
        victim.kill()
        killed.append(victim.pid)
        answers = await asyncio.gather(*asking)
        # Then every answer is what it would have been
        for kind, answer in zip(kinds, answers, strict=True):
            assert answer == expected[kind], kind
    assert len(set(killed)) == KILLS


@pytest.mark.timeout(300)
async def test_changed_settings_are_taken_without_a_failed_request(
    group: Stack, client: AsyncOpenAI, tmp_path: Path, way: str
) -> None:
    expected = await ask(client, "story")
    stop = asyncio.Event()
    answered = 0

    async def keep_asking() -> None:
        nonlocal answered
        while not stop.is_set():
            assert await ask(client, "story") == expected
            answered += 1

    # Given requests all the time
    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    before = await client.chat.completions.with_raw_response.create(
        model="demo", messages=[{"role": "user", "content": "x"}]
    )
    assert before.headers["x-reasoning-effort"] == "medium"
    # When `serving up --update` is run with other settings
    settings = write_settings(tmp_path, 2, way, default_effort="high")
    settings.write_text(
        settings.read_text().replace(str(tmp_path / "script.jsonl"), str(group.log.parent / "script.jsonl"))
    )
    second = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("serving")),
        *("up", "--update", "--port", str(group.port), "--config", str(settings)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "RAY_"))},
    )
    output, _ = await second.communicate()
    stop.set()
    await asyncio.gather(*asking)
    # Then it says so, the settings are in force, and nobody noticed
    assert second.returncode == 0, output.decode()
    assert b"has taken these settings" in output
    after = await client.chat.completions.with_raw_response.create(
        model="demo", messages=[{"role": "user", "content": "x"}]
    )
    assert after.headers["x-reasoning-effort"] == "high"
    assert answered > 8
    await until(lambda: len(engine_replicas(group)) == 2, 60)


def test_settings_that_need_a_new_start_are_refused(group: Stack, tmp_path: Path, way: str) -> None:
    settings = write_settings(tmp_path, 2, way)
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "http": {"longest_answer_s": 77}}))
    second = subprocess.run(
        [
            str(Path(sys.executable).with_name("serving")),
            "up",
            "--update",
            "--port",
            str(group.port),
            "--config",
            str(settings),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert "http.longest_answer_s: cannot change while it serves" in second.stderr


def test_ctrl_c_lets_a_running_answer_finish_and_leaves_nothing(group: Stack) -> None:
    # Given a server, which this is the last test of
    # When it is interrupted in the middle of an answer
    said = ""
    with OpenAI(base_url=f"{group.root}/v1", api_key="unused", max_retries=0) as client:
        for chunk in client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Tell me a story."}], stream=True
        ):
            if not said and chunk.choices[0].delta.content:
                group.process.send_signal(signal.SIGINT)
            said += chunk.choices[0].delta.content or ""
    # Then the answer is whole, the exit status says all is well, and no process is left
    assert said == f"Once 🦥 {WORDS}"
    assert group.process.wait(60) == 0, group.output()
    assert "waiting for 1 running answer" in group.output()
    assert strays(str(group.log.parent)) == []
