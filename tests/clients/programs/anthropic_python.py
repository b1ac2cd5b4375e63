"""Anthropic's Python SDK: Messages."""

from __future__ import annotations

from typing import Any

from anthropic import NotFoundError, beta_tool
from checks import MODEL, NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import client

THINKING: Any = {"type": "adaptive"}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@check("messages.answer")
def answer() -> str:
    message = client.messages.create(model=MODEL, max_tokens=2000, messages=user(hello("messages.answer")))
    return "".join(block.text for block in message.content if block.type == "text")


@check("messages.stream")
def stream() -> list[str]:
    with client.messages.stream(model=MODEL, max_tokens=2000, messages=user(count("messages.stream"))) as events:
        return list(events.text_stream)


@beta_tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    assert city == "Zürich"
    return WEATHER


@check("messages.tools")
def tools() -> str:
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=2000,
        tools=[get_weather],
        messages=user(weather("messages.tools")),
        thinking=THINKING,
    )
    return "".join(block.text for block in runner.until_done().content if block.type == "text")


@check("messages.error")
def error() -> str:
    try:
        client.messages.create(model=NO_MODEL, max_tokens=2000, messages=user(hello("messages.error")))
    except NotFoundError as error:
        return error.message
    return "no error"


if __name__ == "__main__":
    run()
