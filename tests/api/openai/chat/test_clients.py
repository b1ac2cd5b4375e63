"""Chat through the clients that people use: OpenAI's parse helper and tool loop, openai-agents, LangChain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import pydantic_function_tool
from pydantic import BaseModel, Field, SecretStr

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

ANALYSIS = "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant"


def call(name: str, arguments: str) -> ScriptLine:
    header = f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
    return ScriptLine(completion=f"{ANALYSIS}{header}{arguments}<|call|>", tokens_per_step=2)


def answer(text: str) -> ScriptLine:
    return ScriptLine(completion=f"{ANALYSIS}<|channel|>final<|message|>{text}<|return|>", tokens_per_step=2)


class Person(BaseModel):
    """Whom the text is about."""

    name: str
    age: int = Field(description="In years")
    friends: list[Person] = []


PERSON = answer('{"name":"Ann","age":7,"friends":[]}')


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither library may call home."""
    for name in ("OPENAI_AGENTS_DISABLE_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING"):
        monkeypatch.setenv(name, "1" if "DISABLE" in name else "false")


async def test_the_parse_helper_gives_the_model_back(serve: Serve) -> None:
    async with serve(PERSON) as served:
        completion = await served.openai.chat.completions.parse(
            model="demo", messages=[{"role": "user", "content": "Ann is 7."}], response_format=Person
        )
        assert completion.choices[0].message.parsed == Person(name="Ann", age=7)
        assert any(request.constraint for request in served.engine.requests)


async def test_the_stream_helper_parses_as_it_goes(serve: Serve) -> None:
    async with (
        serve(PERSON) as served,
        served.openai.chat.completions.stream(
            model="demo", messages=[{"role": "user", "content": "Ann is 7."}], response_format=Person
        ) as events,
    ):
        kinds = {event.type async for event in events}
        completion = await events.get_final_completion()
    assert completion.choices[0].message.parsed == Person(name="Ann", age=7)
    assert {"content.delta", "content.done"} <= kinds


class GetWeather(BaseModel):
    """Weather of a city."""

    city: str


async def test_a_strict_tool_is_parsed_and_its_loop_goes_on_to_the_answer(served: Served) -> None:
    served.engine.in_turn = [call("GetWeather", '{"city":"Rome"}'), answer("It is sunny.")]
    messages: list[Any] = [{"role": "user", "content": "How is it in Rome?"}]
    tools = [pydantic_function_tool(GetWeather)]
    completion = await served.openai.chat.completions.parse(model="demo", messages=messages, tools=tools)
    message = completion.choices[0].message
    (made,) = message.tool_calls or []
    assert made.function.parsed_arguments == GetWeather(city="Rome")
    messages += [message, {"role": "tool", "tool_call_id": made.id, "content": "sunny"}]
    again = await served.openai.chat.completions.parse(model="demo", messages=messages, tools=tools)
    assert again.choices[0].message.content == "It is sunny."
    prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert [prompt.count(text) for text in ("Let me think.", '{"city":"Rome"}', "sunny")] == [1, 1, 1]


@function_tool
def find_city() -> str:
    """Where the user is."""
    return "Zürich"


@function_tool
def get_weather(city: str) -> str:
    """The weather now."""
    return f"sunny in {city}"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_with_two_tools_runs_to_its_answer(served: Served, streamed: bool) -> None:
    served.engine.in_turn = [
        call("find_city", "{}"),
        call("get_weather", '{"city": "Zürich"}'),
        answer("It is sunny in Zürich."),
    ]
    agent = Agent[None](
        name="Weather assistant",
        instructions="Use the tools.",
        model=OpenAIChatCompletionsModel(model="demo", openai_client=served.openai),
        tools=[find_city, get_weather],
    )
    config = RunConfig(tracing_disabled=True)
    result: Any
    if streamed:
        result = Runner.run_streamed(agent, "How is the weather here?", run_config=config)
        events = [event.type async for event in result.stream_events()]
        assert events.count("run_item_stream_event") >= 5
    else:
        result = await Runner.run(agent, "How is the weather here?", run_config=config)
    assert result.final_output == "It is sunny in Zürich."
    outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    assert outputs == ["Zürich", "sunny in Zürich"]


@tool
def weather_of(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


def langchain(served: Served, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="demo",
        base_url=f"http://{served.host}:{served.port}/v1",
        api_key=SecretStr("none"),
        max_retries=0,
        **fields,
    )


async def test_langchain_streams_a_tool_call_and_goes_on(served: Served) -> None:
    served.engine.in_turn = [call("weather_of", '{"city": "Zürich"}'), answer("Sunny.")]
    model = langchain(served, stream_usage=True).bind_tools([weather_of])
    asked = HumanMessage("How is the weather?")
    parts = [part async for part in model.astream([asked])]
    assert sum(bool(part.tool_call_chunks) for part in parts if isinstance(part, AIMessageChunk)) > 2
    whole: Any = parts[0]
    for part in parts[1:]:
        whole = whole + part
    (made,) = whole.tool_calls
    assert (made["name"], made["args"]) == ("weather_of", {"city": "Zürich"})
    assert whole.usage_metadata["output_token_details"]["reasoning"] > 0
    result = ToolMessage(weather_of.invoke(made["args"]), tool_call_id=made["id"])
    again = await model.ainvoke([asked, whole, result])
    assert again.content == "Sunny."


async def test_langchain_gets_structured_output(served: Served) -> None:
    served.engine.in_turn = [PERSON]
    model = langchain(served).with_structured_output(Person, method="json_schema")
    assert await model.ainvoke("Ann is 7.") == Person(name="Ann", age=7)


async def test_langchain_forces_a_tool(served: Served) -> None:
    model = langchain(served).bind_tools([weather_of], tool_choice="weather_of")
    served.engine.in_turn = [answer("I would rather talk.")]
    message = await model.ainvoke("Hello!")
    assert [made["name"] for made in [*message.tool_calls, *message.invalid_tool_calls]] == ["weather_of"]
