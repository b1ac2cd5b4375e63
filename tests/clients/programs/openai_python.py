"""OpenAI's Python SDK: chat and Responses."""

from __future__ import annotations

import json
from typing import Any

from checks import MODEL, NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import client
from openai import NotFoundError

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@check("chat.answer")
def chat_answer() -> str | None:
    completion = client.chat.completions.create(model=MODEL, messages=user(hello("chat.answer")))
    return completion.choices[0].message.content


@check("chat.stream")
def chat_stream() -> list[str]:
    with client.chat.completions.stream(model=MODEL, messages=user(count("chat.stream"))) as events:
        return [event.delta for event in events if event.type == "content.delta"]


@check("chat.tools")
def chat_tools() -> str | None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
    messages = user(weather("chat.tools"))
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
    (made,) = message.tool_calls or []
    assert json.loads(made.function.arguments) == {"city": "Zürich"}
    messages += [message, {"role": "tool", "tool_call_id": made.id, "content": WEATHER}]
    return client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message.content


@check("chat.error")
def chat_error() -> str:
    try:
        client.chat.completions.create(model=NO_MODEL, messages=user(hello("chat.error")))
    except NotFoundError as error:
        return error.message
    return "no error"


@check("responses.answer")
def responses_answer() -> str:
    return client.responses.create(model=MODEL, input=hello("responses.answer")).output_text


@check("responses.stream")
def responses_stream() -> list[str]:
    with client.responses.stream(model=MODEL, input=count("responses.stream")) as events:
        return [event.delta for event in events if event.type == "response.output_text.delta"]


def _responses_tools(tag: str, **fields: Any) -> str:
    tools: Any = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}]
    items: list[Any] = user(weather(tag))
    response = client.responses.create(model=MODEL, input=items, tools=tools, **fields)
    (made,) = [item for item in response.output if item.type == "function_call"]
    items += [*response.output, {"type": "function_call_output", "call_id": made.call_id, "output": WEATHER}]
    response = client.responses.create(model=MODEL, input=items, tools=tools, **fields)
    return response.output_text


@check("responses.tools")
def responses_tools() -> str:
    return _responses_tools("responses.tools")


@check("responses.encrypted")
def responses_encrypted() -> str:
    return _responses_tools("responses.encrypted", store=False, include=["reasoning.encrypted_content"])


@check("responses.error")
def responses_error() -> str:
    try:
        client.responses.create(model=NO_MODEL, input=hello("responses.error"))
    except NotFoundError as error:
        return error.message
    return "no error"


if __name__ == "__main__":
    run()
