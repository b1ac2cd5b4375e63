"""LlamaIndex: OpenAILike over chat, OpenAIResponses, and a function agent."""

from __future__ import annotations

from typing import Any

from checks import NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import chat, responses
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from openai import NotFoundError


def get_weather(city: str) -> str:
    """The weather of a city."""
    assert city == "Zürich"
    return WEATHER


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def checks(api: str, llm: Any) -> None:
    @check(f"{api}.answer")
    async def answer() -> str:
        return str((await llm.achat(user(hello(f"{api}.answer")))).message.content)

    @check(f"{api}.stream")
    async def stream() -> list[str]:
        return [chunk.delta async for chunk in await llm.astream_chat(user(count(f"{api}.stream"))) if chunk.delta]

    @check(f"{api}.tools")
    async def tools() -> str:
        return str(await FunctionAgent(tools=[get_weather], llm=llm).run(weather(f"{api}.tools")))

    @check(f"{api}.error")
    async def error() -> str:
        unknown = llm.model_copy(update={"model": NO_MODEL})
        try:
            await unknown.achat(user(hello(f"{api}.error")))
        except NotFoundError as error:
            return error.message
        return "no error"


checks("chat", chat)
checks("responses", responses)

if __name__ == "__main__":
    run()
