from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serving.harmony.vocabulary import START, encode, encode_harmony
from serving.settings.models import ModelSettings
from serving.settings.reasoning import ReasoningSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

TEXT = "<|start|>user<|message|>Grüße 🦄<|end|>"
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "reasoning_effort": "high",
    "response_format": {"type": "json_schema", "json_schema": {"name": "report", "schema": {"type": "object"}}},
}


async def post(served: Served, path: str, **body: Any) -> dict[str, Any]:
    reply = await served.http.post(path, json={"model": "demo", **body})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
async def test_a_text_becomes_tokens(serve: Serve, path: str) -> None:
    async with serve(max_model_len=4096) as served:
        tokens = await post(served, path, prompt=TEXT)
        special = await post(served, path, prompt=TEXT, allow_special_tokens=True, add_special_tokens=True)
    assert tokens == {"count": len(encode(TEXT)), "max_model_len": 4096, "tokens": encode(TEXT)}
    assert special["tokens"] == encode_harmony(TEXT)


async def test_token_strs_are_the_tokens_texts(served: Served) -> None:
    tokens = await post(served, "/tokenize", prompt="Hi 🦄", return_token_strs=True)
    assert len(tokens["token_strs"]) == tokens["count"]
    assert tokens["token_strs"][0] == "Hi"
    assert "\ufffd" in tokens["token_strs"][-1]


async def test_a_conversation_becomes_the_prompt_that_chat_makes_of_it(served: Served) -> None:
    tokens = await post(served, "/tokenize", **CHAT, return_token_strs=True)
    await served.chat(**CHAT)
    asked = next(r for r in served.engine.requests if not r.request_id.endswith("-check-0"))
    assert tokens["tokens"] == asked.prompt_token_ids
    assert tokens["token_strs"][-2] == "<|start|>"
    assert tokens["tokens"][-2] == START


@pytest.mark.parametrize("path", ["/detokenize", "/v1/detokenize"])
async def test_tokens_become_text(served: Served, path: str) -> None:
    assert await post(served, path, tokens=encode_harmony(TEXT)) == {"prompt": TEXT}
    assert await post(served, path, tokens=[]) == {"prompt": ""}


async def test_long_texts_come_back(served: Served) -> None:
    text = "a long text, much of it the same. " * 3000
    tokens = (await post(served, "/tokenize", prompt=text))["tokens"]
    assert await post(served, "/detokenize", tokens=tokens) == {"prompt": text}


async def test_the_model_may_be_left_out_where_there_is_one(served: Served, serve: Serve) -> None:
    assert (await served.http.post("/tokenize", json={"prompt": "a"})).status_code == 200
    assert (await served.http.post("/detokenize", json={"tokens": [5], "model": None})).status_code == 200
    async with serve(models={"demo": ModelSettings(), "other": ModelSettings(source="demo")}) as two:
        refused = await two.http.post("/tokenize", json={"prompt": "a"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("status", "param", "path", "body"),
    [
        (404, "model", "/tokenize", {"prompt": "a", "model": "none"}),
        (400, "prompt", "/tokenize", {}),
        (400, "prompt", "/tokenize", {"prompt": ["a"]}),
        (400, "messages", "/tokenize", {"messages": []}),
        (400, "prompt", "/tokenize", {"messages": [{"role": "user", "content": "a"}], "prompt": "a"}),
        (400, "add_generation_prompt", "/tokenize", {**CHAT, "add_generation_prompt": False}),
        (400, "chat_template", "/tokenize", {**CHAT, "chat_template": "x"}),
        (400, "tokens", "/detokenize", {"tokens": "a"}),
        (400, "tokens[1]", "/detokenize", {"tokens": [1, 201088]}),
        (400, "tokens[0]", "/detokenize", {"tokens": [-1]}),
        (400, "tokens[0]", "/detokenize", {"tokens": [True]}),
    ],
)
async def test_mistakes_are_named(served: Served, status: int, param: str, path: str, body: dict[str, Any]) -> None:
    reply = await served.http.post(path, json={"model": "demo", **body})
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


async def test_efforts_follow_the_models_settings(serve: Serve) -> None:
    strict = ModelSettings(reasoning=ReasoningSettings(unsupported_effort="refuse"))
    async with serve(models={"demo": strict}) as served:
        reply = await served.http.post("/tokenize", json={**CHAT, "reasoning_effort": "max"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "reasoning_effort")


async def test_an_engine_that_is_not_ready_is_said(serve: Serve) -> None:
    async with serve(start=False) as served:
        reply = await served.http.post("/tokenize", json={"prompt": "a"})
    assert reply.status_code == 503
