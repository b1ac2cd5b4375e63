"""AutoGen: an assistant agent with a tool."""

from __future__ import annotations

from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from checks import NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import model_client
from openai import NotFoundError


async def get_weather(city: str) -> str:
    """The weather of a city."""
    assert city == "Zürich"
    return WEATHER


def agent(client: Any = model_client, **fields: Any) -> AssistantAgent:
    return AssistantAgent("helper", model_client=client, system_message="Be brief.", **fields)


async def said(assistant: AssistantAgent, task: str) -> str:
    return str((await assistant.run(task=task)).messages[-1].content)


@check("chat.answer")
async def answer() -> str:
    return await said(agent(), hello("chat.answer"))


@check("chat.stream")
async def stream() -> list[str]:
    events = agent(model_client_stream=True).run_stream(task=count("chat.stream"))
    return [event.content async for event in events if isinstance(event, ModelClientStreamingChunkEvent)]


@check("chat.tools")
async def tools() -> str:
    return await said(agent(tools=[get_weather], reflect_on_tool_use=True), weather("chat.tools"))


@check("chat.error")
async def error() -> str:
    config = model_client.dump_component().config | {"model": NO_MODEL, "api_key": "none"}
    try:
        await said(agent(OpenAIChatCompletionClient(**config)), hello("chat.error"))
    except NotFoundError as error:
        return error.message
    return "no error"


if __name__ == "__main__":
    run()
