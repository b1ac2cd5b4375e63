from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Any

import pytest

from serving.engine.base import EngineInfo, EngineRequest, Sampling, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import Conversation, FunctionTool, UserMessage

StartEngine = Callable[..., Awaitable[ScriptedEngine]]
MakeRequest = Callable[..., ChatGeneration]


@pytest.fixture
def start_engine() -> StartEngine:
    """A started scripted engine that gives `completion` as its answer to everything."""

    async def start(completion: str, tokens_per_step: int = 1, **line: object) -> ScriptedEngine:
        answer = ScriptLine.model_validate({"completion": completion, "tokens_per_step": tokens_per_step, **line})
        engine = ScriptedEngine(Script((answer,)))
        await engine.start()
        return engine

    return start


@pytest.fixture
def make_request() -> MakeRequest:
    def make(
        text: str = "Hello",
        *,
        n: int = 1,
        logprobs: int | None = None,
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        include_reasoning: bool = True,
        tools: tuple[FunctionTool, ...] = (),
        **fields: Any,
    ) -> ChatGeneration:
        return ChatGeneration(
            request_id="request",
            conversation=Conversation((UserMessage(text),), current_date=date(2026, 1, 1), tools=tools),
            sampling=Sampling(max_tokens=0, logprobs=logprobs),
            max_tokens=max_tokens,
            n=n,
            stop=stop,
            include_reasoning=include_reasoning,
            **fields,
        )

    return make


@pytest.fixture
def mint() -> Callable[[], str]:
    numbers = count()
    return lambda: f"call_{next(numbers)}"


@dataclass
class DeltaEngine:
    """Sends the deltas it was given, which the scripted engine cannot where choices differ; then maybe fails."""

    deltas: list[TokenDelta]
    error: Exception | None = None
    max_model_len: int = 4096
    requests: list[EngineRequest] = field(default_factory=list)
    sent: int = 0
    closed: bool = False

    async def prepare(self) -> EngineInfo:
        return EngineInfo("deltas", self.max_model_len)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        self.requests.append(request)
        try:
            for delta in self.deltas:
                self.sent += 1
                yield delta
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@pytest.fixture
def delta_engine() -> type[DeltaEngine]:
    return DeltaEngine
