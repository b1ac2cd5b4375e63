"""Semantic Kernel: a chat agent with a plugin."""

from __future__ import annotations

from checks import NO_MODEL, WEATHER, check, count, hello, run, weather
from configuration import service
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.exceptions import KernelException
from semantic_kernel.functions import kernel_function


class Weather:
    @kernel_function(name="get_weather", description="The weather of a city.")
    def get_weather(self, city: str) -> str:
        assert city == "Zürich"
        return WEATHER


def agent(**fields: object) -> ChatCompletionAgent:
    return ChatCompletionAgent(service=service, name="Helper", instructions="Be brief.", **fields)


@check("chat.answer")
async def answer() -> str:
    return str((await agent().get_response(messages=hello("chat.answer"))).message)


@check("chat.stream")
async def stream() -> list[str]:
    return [str(chunk.message) async for chunk in agent().invoke_stream(messages=count("chat.stream"))]


@check("chat.tools")
async def tools() -> str:
    question = f"{weather('chat.tools')} by Weather-get_weather"
    return str((await agent(plugins=[Weather()]).get_response(messages=question)).message)


@check("chat.error")
async def error() -> str:
    unknown = service.model_copy(update={"ai_model_id": NO_MODEL})
    try:
        await ChatCompletionAgent(service=unknown, name="Helper").get_response(messages=hello("chat.error"))
    except KernelException as error:
        return f"{error} {error.__cause__}"
    return "no error"


if __name__ == "__main__":
    run()
