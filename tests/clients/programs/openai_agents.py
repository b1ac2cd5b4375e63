"""OpenAI's Agents SDK for Python: chat and Responses."""

from __future__ import annotations

import copy
from typing import Any

from agents import (
    Agent,
    ModelSettings,
    Runner,
    function_tool,
)
from checks import MODEL, NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import chat, responses
from openai import APIStatusError

STATELESS = ModelSettings(store=False, response_include=["reasoning.encrypted_content"])


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    assert city == "Zürich"
    return WEATHER


def agent(api: str, name: str = MODEL, **fields: Any) -> Agent[None]:
    model = copy.copy(chat if api == "chat" else responses)
    model.model = name
    return Agent[None](name="Helper", model=model, tools=[get_weather], **fields)


def checks(api: str) -> None:
    @check(f"{api}.answer")
    async def answer() -> str:
        return str((await Runner.run(agent(api), hello(f"{api}.answer"))).final_output)

    @check(f"{api}.stream")
    async def stream() -> list[str]:
        result = Runner.run_streamed(agent(api), count(f"{api}.stream"))
        return [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]

    @check(f"{api}.tools")
    async def tools() -> str:
        return str((await Runner.run(agent(api), weather(f"{api}.tools"))).final_output)

    @check(f"{api}.error")
    async def error() -> str:
        try:
            await Runner.run(agent(api, NO_MODEL), hello(f"{api}.error"))
        except APIStatusError as error:
            return error.message
        return "no error"


checks("chat")
checks("responses")


@check("responses.encrypted")
async def encrypted() -> str:
    result = await Runner.run(agent("responses", model_settings=STATELESS), weather("responses.encrypted"))
    return str(result.final_output)


if __name__ == "__main__":
    run()
