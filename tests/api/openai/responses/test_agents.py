"""OpenAI's own agents package runs its loop over the Responses API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import agents
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode

if TYPE_CHECKING:
    from tests.http_server import Served


def line(*, thought: str, call: str | None = None, arguments: str = "{}", answer: str = "") -> ScriptLine:
    said = (
        f"<|channel|>commentary to=functions.{call} <|constrain|>json<|message|>{arguments}<|call|>"
        if call
        else f"<|channel|>final<|message|>{answer}<|return|>"
    )
    return ScriptLine(completion=f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant{said}")


SCRIPT = [
    line(thought="First where.", call="find_city"),
    line(thought="Then the weather.", call="get_weather", arguments='{"city": "Zürich"}'),
    line(thought="That is all.", answer="It is sunny in Zürich."),
]


@pytest.fixture(autouse=True)
def _no_tracing() -> Iterator[None]:
    agents.set_tracing_disabled(True)
    yield
    agents.set_tracing_disabled(False)


@function_tool
def find_city() -> str:
    """Where the user is."""
    return "Zürich"


@function_tool
def get_weather(city: str) -> str:
    """The weather now."""
    return f"sunny in {city}"


def assistant(served: Served) -> Agent[None]:
    served.engine.in_turn = list(SCRIPT)
    return Agent(
        name="Weather assistant",
        instructions="Use the tools.",
        model=OpenAIResponsesModel(model="demo", openai_client=served.openai),
        tools=[find_city, get_weather],
    )


@pytest.mark.parametrize("continued", [False, True])
async def test_an_agent_with_two_tools_runs_to_its_answer(served: Served, continued: bool) -> None:
    result = await Runner.run(
        assistant(served),
        "How is the weather here?",
        run_config=RunConfig(tracing_disabled=True),
        auto_previous_response_id=continued,
    )
    assert result.final_output == "It is sunny in Zürich."
    assert [type(item).__name__ for item in result.new_items] == [
        "ReasoningItem",
        "ToolCallItem",
        "ToolCallOutputItem",
        "ReasoningItem",
        "ToolCallItem",
        "ToolCallOutputItem",
        "ReasoningItem",
        "MessageOutputItem",
    ]
    last = decode(served.engine.requests[-1].prompt_token_ids)
    assert [last.count(text) for text in ("First where.", "Then the weather.", "sunny in Zürich")] == [1, 1, 1]
    usage = result.context_wrapper.usage
    assert (usage.requests, usage.output_tokens_details.reasoning_tokens > 0) == (3, True)


async def test_an_agent_streams_its_run(served: Served) -> None:
    result = Runner.run_streamed(assistant(served), "How is the weather here?")
    kinds = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    assert result.final_output == "It is sunny in Zürich."
    assert kinds.count("response.completed") == 3
    assert "response.function_call_arguments.delta" in kinds
    assert "response.reasoning_text.delta" in kinds
