"""What the server mended is told: by the header of whole replies, and by the usage of streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.engine.scripted import ScriptLine
from serving.settings.recovery import RecoverySettings
from tests.http_server import HELLO, Serve, Served

ALONE = (
    "<|channel|>commentary<|message|>Let me see.<|return|>"
    "<|start|>assistant<|channel|>final<|message|>It is sunny.<|return|>"
)
SOUND = "<|channel|>final<|message|>It is sunny.<|return|>"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "demo", "messages": [HELLO]},
    "/v1/responses": {"model": "demo", "input": "Hello!"},
    "/v1/messages": {"model": "demo", "max_tokens": 100, "messages": [HELLO]},
}
ROUTES = list(BODIES)


def usage_of(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = event.get("usage") or (event.get("response") or {}).get("usage") or {}
    return found


async def streamed_usage(served: Served, route: str) -> dict[str, Any]:
    more = {"stream_options": {"include_usage": True}} if route.endswith("completions") else {}
    reply = await served.http.post(route, json={**BODIES[route], "stream": True, **more})
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    assert "x-recovered" not in reply.headers
    return [usage for event in events if (usage := usage_of(event))][-1]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_second_chance_is_told_whole_and_streamed(serve: Serve, route: str) -> None:
    async with serve(ScriptLine(completion=ALONE)) as served:
        reply = await served.http.post(route, json=BODIES[route])
        assert reply.headers["x-recovered"] == "answer_missing"
        assert "It is sunny." in reply.text
        assert reply.json()["usage"]["recovered"] == {"answer_missing": 1}
        usage = await streamed_usage(served, route)
        assert usage["recovered"] == {"answer_missing": 1}


@pytest.mark.parametrize("route", ROUTES)
async def test_an_answer_without_recoveries_says_nothing_of_them(serve: Serve, route: str) -> None:
    async with serve(ScriptLine(completion=SOUND)) as served:
        reply = await served.http.post(route, json=BODIES[route])
        assert "x-recovered" not in reply.headers
        assert "recovered" not in reply.json()["usage"]
        assert "recovered" not in await streamed_usage(served, route)


async def test_choices_count_together(serve: Serve) -> None:
    async with serve(ScriptLine(completion=f"x<|end|>{SOUND}")) as served:
        reply = await served.chat(n=3)
        assert reply.headers["x-recovered"] == ", ".join(sorted(reply.json()["usage"]["recovered"]))
        assert set(reply.json()["usage"]["recovered"].values()) == {3}


async def test_an_operator_can_turn_second_chances_off(serve: Serve) -> None:
    off = {"recovery": RecoverySettings(retry=False)}
    async with serve(ScriptLine(completion=ALONE), further=off) as served:
        reply = await served.chat()
        assert "x-recovered" not in reply.headers
        assert "It is sunny." not in reply.text


async def test_an_operator_can_have_the_model_name_a_function_again(serve: Serve) -> None:
    call = '<|channel|>commentary to=functions.{} <|constrain|>json<|message|>{{"city": "Oslo"}}<|call|>'
    line = ScriptLine(completion=call.format("look_outside") + "<|start|>assistant" + call.format("get_weather"))
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    again = {"recovery": RecoverySettings(unoffered_calls="retry")}
    async with serve(line, further=again) as served:
        reply = await served.chat(tools=tools)
        (made,) = reply.json()["choices"][0]["message"]["tool_calls"]
        assert made["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
        assert reply.headers["x-recovered"] == "tool_not_offered"
