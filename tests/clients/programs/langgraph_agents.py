"""LangChain and LangGraph: chat, Responses and Messages, with a named agent."""

from __future__ import annotations

from typing import Any

from checks import NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import chat, messages, responses
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    assert city == "Zürich"
    return WEATHER


def asked(text: str) -> Any:
    return {"messages": [HumanMessage(text, name="bob")]}


def checks(api: str, model: Any) -> None:
    @check(f"{api}.answer")
    async def answer() -> str:
        return str((await model.ainvoke([HumanMessage(hello(f"{api}.answer"), name="bob")])).text)

    @check(f"{api}.stream")
    async def stream() -> list[str]:
        return [text async for chunk in model.astream(count(f"{api}.stream")) if (text := str(chunk.text))]

    @check(f"{api}.tools")
    async def tools() -> str:
        agent = create_agent(model, tools=[get_weather], name="helper", system_prompt="Use the tools.")
        state = await agent.ainvoke(asked(weather(f"{api}.tools")))
        return str(state["messages"][-1].text)

    @check(f"{api}.streamed-tools")
    async def streamed_tools() -> list[str]:
        agent = create_agent(model, tools=[get_weather], name="helper")
        pieces = []
        async for message, _ in agent.astream(asked(weather(f"{api}.streamed-tools")), stream_mode="messages"):
            if message.type == "AIMessageChunk":
                pieces.append(str(message.text))
        return pieces

    @check(f"{api}.error")
    async def error() -> str:
        try:
            await model.model_copy(update={"model_name" if api != "messages" else "model": NO_MODEL}).ainvoke(
                hello(f"{api}.error")
            )
        except Exception as error:  # noqa: BLE001  # each provider raises its own
            return str(error)
        return "no error"


checks("chat", chat)
checks("responses", responses)
checks("messages", messages)

if __name__ == "__main__":
    run()
