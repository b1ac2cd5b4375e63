"""Pydantic AI: agents over chat, Responses and Messages."""

from __future__ import annotations

from typing import Any

from checks import NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import chat, messages, responses
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError


def get_weather(city: str) -> str:
    """The weather of a city."""
    assert city == "Zürich"
    return WEATHER


def checks(api: str, model: Any) -> None:
    @check(f"{api}.answer")
    async def answer() -> str:
        return (await Agent(model).run(hello(f"{api}.answer"))).output

    @check(f"{api}.stream")
    async def stream() -> list[str]:
        async with Agent(model).run_stream(count(f"{api}.stream")) as result:
            return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

    @check(f"{api}.tools")
    async def tools() -> str:
        return (await Agent(model, tools=[get_weather]).run(weather(f"{api}.tools"))).output

    @check(f"{api}.error")
    async def error() -> str:
        try:
            await Agent(type(model)(NO_MODEL, provider=model._provider)).run(hello(f"{api}.error"))
        except ModelHTTPError as error:
            return str(error)
        return "no error"


checks("chat", chat)
checks("responses", responses)
checks("messages", messages)

if __name__ == "__main__":
    run()
