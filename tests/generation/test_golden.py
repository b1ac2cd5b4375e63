"""Golden cases: what must come of a completion, however the engine cuts it, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serving.engine.scripted import ScriptedEngine
from serving.generation import chat
from serving.generation.answer import AnswerBuilder
from serving.generation.types import ChatChoice, ChatGeneration
from serving.harmony.conversation import FunctionTool
from serving.harmony.vocabulary import encode_harmony

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "cases/harmony.jsonl").read_text("utf-8").splitlines() if line
]


@pytest.fixture(params=CASES, ids=lambda case: str(case["name"]))
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(params=[1, 3, 1000])
async def engine(
    request: pytest.FixtureRequest, case: dict[str, Any], start_engine: Callable[..., Awaitable[ScriptedEngine]]
) -> ScriptedEngine:
    cut = case["expect"]["finish_reason"] == "length"
    return await start_engine(case["completion"], request.param, finish="length" if cut else "stop")


def offered(case: dict[str, Any]) -> tuple[FunctionTool, ...]:
    return tuple(FunctionTool(call["name"]) for call in case["expect"]["tool_calls"])


def as_expectation(choice: ChatChoice, recovered: list[str]) -> dict[str, Any]:
    return {
        "analysis": choice.reasoning,
        "commentary": choice.commentary,
        "content": choice.content,
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in choice.tool_calls],
        "finish_reason": choice.finish_reason,
        "recovered": bool(recovered),
    }


@pytest.mark.parametrize("logprobs", [None, 0])
async def test_streamed(
    case: dict[str, Any],
    engine: ScriptedEngine,
    make_request: Callable[..., ChatGeneration],
    logprobs: int | None,
) -> None:
    request = make_request(logprobs=logprobs, tools=offered(case))
    recovered: list[str] = []
    builder = AnswerBuilder(request)
    async for event in chat.answer(engine, request, on_recovered=recovered.append):
        builder.add(event)
    answer = builder.answer()
    assert as_expectation(answer.choices[0], recovered) == case["expect"]
    assert answer.usage.completion_tokens == len(encode_harmony(case["completion"]))


@pytest.mark.parametrize("stop", [(), ("never said",)])
async def test_whole(
    case: dict[str, Any],
    engine: ScriptedEngine,
    make_request: Callable[..., ChatGeneration],
    stop: tuple[str, ...],
) -> None:
    recovered: list[str] = []
    answer = await chat.complete(engine, make_request(stop=stop, tools=offered(case)), on_recovered=recovered.append)
    assert as_expectation(answer.choices[0], recovered) == case["expect"]
    assert answer.usage.completion_tokens == len(encode_harmony(case["completion"]))
