"""Requests that real clients send, as people reported them; each of them was a 400 once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serving.harmony.raw import decode_raw

if TYPE_CHECKING:
    from tests.http_server import Served

HI: Any = {"role": "user", "content": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}


def loop(result: Any = "x", **assistant: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": None, "tool_calls": [CALL], **assistant}
    return {"messages": [HI, said, {"role": "tool", "tool_call_id": "c1", "content": result}], "tools": [TOOL]}


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


@pytest.mark.parametrize(
    ("route", "body"),
    [
        pytest.param(CHAT, {"messages": [{**HI, "name": "bob"}]}, id="vllm#12864"),
        pytest.param(
            CHAT, {"messages": [HI, {"role": "assistant", "content": "x", "name": "a"}, HI]}, id="langgraph#3340"
        ),
        pytest.param(
            CHAT,
            loop(thinking_blocks=[{"type": "thinking", "thinking": "t", "signature": ""}]),
            id="litellm#33961",
        ),
        pytest.param(
            CHAT,
            {
                "messages": [
                    HI,
                    {"role": "assistant", "content": "x", "provider_specific_fields": {"refusal": None}},
                    HI,
                ]
            },
            id="holmesgpt#1943",
        ),
        pytest.param(CHAT, {"messages": [{**HI, "id": 7}]}, id="vllm#10463"),
        pytest.param(CHAT, {"messages": [HI], "chat_template_kwargs": {"reasoning_effort": "high"}}, id="dify#28"),
        pytest.param(CHAT, {"messages": [HI], "ignore_eos": True}, id="guidellm#979"),
        pytest.param(CHAT, {"messages": [HI], "skip_special_tokens": False}, id="vllm#3773"),
        pytest.param(CHAT, {"messages": [HI], "prompt_logprobs": None, "allowed_token_ids": None}, id="null"),
        pytest.param(RESPONSES, {"input": "Hi", "client_metadata": {"x-codex-installation-id": "i"}}, id="gllm#267"),
        pytest.param(
            RESPONSES,
            {
                "input": "Hi",
                "tools": [
                    {"type": "function", "name": "get_weather", "parameters": PARAMETERS},
                    {"type": "web_search", "external_web_access": False},
                ],
            },
            id="codex#10635",
        ),
        pytest.param(
            MESSAGES,
            {
                "messages": [HI],
                "max_tokens": 32_000,
                "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            },
            id="9router#1468",
        ),
        pytest.param(CHAT, loop([]), id="librechat#15198"),
        pytest.param(CHAT, loop(content=[]), id="pi#4514"),
        pytest.param(
            CHAT,
            {
                "messages": [HI],
                "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
                "ignore_eos": True,
                "max_tokens": 20,
                "max_completion_tokens": 20,
            },
            id="guidellm",
        ),
    ],
)
async def test_it_is_answered(served: Served, route: str, body: dict[str, Any]) -> None:
    reply = await served.http.post(route, json={"model": "demo", **body})

    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers


async def test_codex_goes_on_after_it_has_looked_at_an_image(served: Served) -> None:
    items: list[Any] = [
        HI,
        {"type": "function_call", "call_id": "c", "name": "view_image", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
    ]
    reply = await served.http.post(RESPONSES, json={"model": "demo", "input": items})
    of_the_user = await served.http.post(
        RESPONSES, json={"model": "demo", "input": [{"role": "user", "content": [IMAGE]}]}
    )

    assert reply.status_code == 200, reply.text
    prompt = decode_raw(served.engine.requests[0].prompt_token_ids, skip_special=False)
    assert "<|message|>[image left out: this model reads text alone]<|end|>" in prompt
    assert (of_the_user.status_code, of_the_user.json()["error"]["param"]) == (400, "input[0].content[0]")
