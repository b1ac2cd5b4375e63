"""The application on the scripted engine, in a thread of its own: the clients here block."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import openai
import pytest

from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.tree import Settings
from tests.http_server import in_thread

HARMONY = (
    "<|channel|>analysis<|message|>Somebody greets me.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Hello there!<|return|>"
)
CALL_HARMONY = (
    "<|channel|>analysis<|message|>A tool has this.<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json"
    '<|message|>{"city": "Zürich"}<|call|>'
)
LINES = (
    ScriptLine(prompt_contains="weather", completion=CALL_HARMONY),
    ScriptLine(prompt_contains="slowly", completion="<|channel|>final<|message|>" + "word " * 20_000, step_ms=20),
    ScriptLine(completion=HARMONY),
)


class Engine(ScriptedEngine):
    """Keeps what it was asked for; `fails_after` is the number of deltas after which it dies."""

    def __init__(self) -> None:
        super().__init__(Script(LINES), model="demo", max_model_len=131072)
        self.prompts: list[list[int]] = []
        self.fails_after: int | None = None

    async def generate(self, request: Any) -> Any:
        self.prompts.append(request.prompt_token_ids)
        async with contextlib.aclosing(super().generate(request)) as deltas:
            taken = 0
            async for delta in deltas:
                if taken == self.fails_after:
                    raise RuntimeError("the secret reason")
                taken += 1
                yield delta


@dataclass(frozen=True)
class Server:
    """A running server, and OpenAI's client of it, which does not retry."""

    url: str
    engine: Engine
    openai: openai.OpenAI


class Until(Protocol):
    def __call__(self, condition: Callable[[], bool], deadline_s: float = 20.0) -> None: ...


@pytest.fixture
def until() -> Until:
    return _until


def _until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {deadline_s} s")
        time.sleep(0.005)


@pytest.fixture
def server() -> Iterator[Server]:
    engine = Engine()
    with (
        in_thread(Settings(), engine) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client,
    ):
        yield Server(f"{base}/v1", engine, client)
