"""Budgets, tools, structured answers, Responses and completions on real vLLM, with the clients people use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents.run import RunConfig
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WHY: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
CAPITAL: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
CITY_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str, description: str, **function: Any) -> Any:
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": CITY_SCHEMA, **function},
    }


TOOLS = [tool("get_weather", "Get the current weather in a city"), tool("get_time", "Get the current time in a city")]


def calls_of(reply: Any) -> list[Any]:
    return list(reply.choices[0].message.tool_calls or ())


class Capital(BaseModel):
    capital: str


@pytest.mark.parametrize("stream", [True, False])
def test_a_budget_closes_the_analysis_and_the_answer_is_whole(client: OpenAI, stream: bool) -> None:
    free = client.chat.completions.create(model="demo", messages=WHY, temperature=0, reasoning_effort="high")
    arguments: dict[str, Any] = {
        "model": "demo",
        "messages": WHY,
        "temperature": 0,
        "reasoning_effort": "high",
        "extra_body": {"max_reasoning_tokens": 10},
    }
    if stream:
        with client.chat.completions.stream(**arguments, stream_options={"include_usage": True}) as events:
            for _ in events:
                pass
            reply: Any = events.get_final_completion()
    else:
        reply = client.chat.completions.create(**arguments)
    choice = reply.choices[0]
    assert reply.usage.completion_tokens_details.reasoning_tokens == 10
    assert free.choices[0].message.model_extra is not None
    assert free.choices[0].message.model_extra["reasoning"].startswith(choice.message.reasoning)
    assert choice.message.content == free.choices[0].message.content
    assert choice.finish_reason == "stop"


def test_the_reserve_keeps_a_short_limit_from_being_spent_on_reasoning(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="demo",
        messages=WHY,
        temperature=0,
        reasoning_effort="high",
        max_completion_tokens=60,
        extra_body={"min_answer_tokens": 30},
    )
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert reply.usage.completion_tokens <= 60


@pytest.mark.parametrize("name", ["get_weather", "get_time"])
def test_a_named_function_is_called_whatever_the_question(client: OpenAI, name: str) -> None:
    reply = client.chat.completions.create(
        model="demo",
        messages=CAPITAL,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": name}},
        temperature=0,
        max_tokens=200,
    )
    (call,) = calls_of(reply)
    assert call.function.name == name
    assert isinstance(json.loads(call.function.arguments), dict)
    assert reply.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("strict", [False, True])
def test_required_means_a_call_and_strict_its_schema(client: OpenAI, strict: bool) -> None:
    tools = [tool("get_weather", "Get the current weather in a city", strict=strict)]
    with client.chat.completions.stream(
        model="demo", messages=CAPITAL, tools=tools, tool_choice="required", temperature=0, max_tokens=200
    ) as events:
        for _ in events:
            pass
        reply = events.get_final_completion()
    (call,) = calls_of(reply)
    arguments = json.loads(call.function.arguments)
    assert isinstance(arguments, dict)
    if strict:
        assert set(arguments) == {"city"}


def test_the_parse_helper_gets_the_schema_it_asks_for(client: OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="demo", messages=CAPITAL, response_format=Capital, temperature=0, max_tokens=200
    )
    assert reply.choices[0].message.parsed == Capital(capital="Paris")
    assert (reply.choices[0].message.model_extra or {})["reasoning"]


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ({"choice": ["yes", "no"]}, {"yes", "no"}),
        ({"regex": "(Paris|London)!"}, {"Paris!", "London!"}),
        ({"grammar": 'root ::= "a" | "b"'}, {"a", "b"}),
    ],
)
def test_vllms_constraints_hold_the_final_channel_alone(
    client: OpenAI, constraint: dict[str, Any], allowed: set[str]
) -> None:
    reply = client.chat.completions.create(
        model="demo", messages=CAPITAL, temperature=0, max_tokens=200, extra_body={"structured_outputs": constraint}
    )
    assert reply.choices[0].message.content in allowed
    assert (reply.choices[0].message.model_extra or {})["reasoning"]


@pytest.mark.parametrize(
    "constraint", [{"grammar": "root ::= nothing"}, {"regex": "(unclosed"}, {"json": {"type": "nonsense"}}]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_constraint_that_cannot_be_is_a_400_that_names_it(
    client: OpenAI, constraint: dict[str, Any], stream: bool
) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model="demo", messages=CAPITAL, stream=stream, extra_body={"structured_outputs": constraint}
        )
    assert str(caught.value.param).startswith("structured_outputs")


def test_responses_stream_parse_continue_and_are_forgotten(client: OpenAI) -> None:
    with client.responses.stream(model="demo", input="My name is Anna.", temperature=0) as events:
        kinds = [event.type for event in events]
        first = events.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.reasoning_text.delta" in kinds
    second = client.responses.create(
        model="demo", input="What is my name?", previous_response_id=first.id, temperature=0
    )
    assert "Anna" in second.output_text
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)
    parsed = client.responses.parse(
        model="demo", input="What is the capital of France?", text_format=Capital, temperature=0
    )
    assert parsed.output_parsed == Capital(capital="Paris")


def test_completions_tokenize_and_detokenize_agree(client: OpenAI) -> None:
    done = client.completions.create(model="demo", prompt="Hello", max_tokens=5, temperature=0)
    assert done.usage is not None
    assert done.usage.completion_tokens == 5
    tokens = client.post("/tokenize", body={"model": "demo", "prompt": "Hello, world"}, cast_to=dict[str, Any])
    text = client.post("/detokenize", body={"model": "demo", "tokens": tokens["tokens"]}, cast_to=dict[str, Any])
    assert text["prompt"] == "Hello, world"
    by_ids = client.completions.create(model="demo", prompt=tokens["tokens"], max_tokens=3, temperature=0)
    assert by_ids.usage is not None
    assert by_ids.usage.prompt_tokens == tokens["count"]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_an_agent_uses_two_tools(stack: Stack, api: str) -> None:
    used = []

    @function_tool
    def get_weather(city: str) -> str:
        """Get the current weather in a city"""
        used.append(f"weather in {city}")
        return json.dumps({"temperature_c": 21, "sky": "sunny"})

    @function_tool
    def get_time(city: str) -> str:
        """Get the current time in a city"""
        used.append(f"time in {city}")
        return json.dumps({"time": "14:30"})

    async with AsyncOpenAI(base_url=f"{stack.root}/v1", api_key="unused", max_retries=0) as connection:
        model = (
            OpenAIChatCompletionsModel("demo", connection)
            if api == "chat"
            else OpenAIResponsesModel("demo", connection)
        )
        agent = Agent(
            name="helper", model=model, tools=[get_weather, get_time], model_settings=ModelSettings(temperature=0)
        )
        result = await Runner.run(
            agent,
            "What is the weather and the time in Paris?",
            run_config=RunConfig(tracing_disabled=True),
            max_turns=6,
        )
    assert sorted(used) == ["time in Paris", "weather in Paris"]
    assert "21" in result.final_output
    assert "14:30" in result.final_output


async def test_langchain_streams_a_tool_call(stack: Stack) -> None:
    model = ChatOpenAI(base_url=f"{stack.root}/v1", api_key=lambda: "unused", model="demo", temperature=0)
    gathered: Any = None
    async for chunk in model.bind_tools([TOOLS[0]]).astream("What is the weather in Paris?"):
        gathered = chunk if gathered is None else gathered + chunk
    (call,) = gathered.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
