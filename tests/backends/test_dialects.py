"""What other servers say becomes the same channels, whichever answered."""

from __future__ import annotations

from typing import Any

import pytest

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


async def test_reasoning_in_its_own_field_is_the_analysis_channel(house: Any, dialects: Any, running: Any) -> None:
    async with running(dialects["lmstudio"]()) as server, house(servers={"lmstudio": {"url": server.url}}) as ours:
        reply = await ours.ask("lmstudio:openai/gpt-oss-20b", reasoning_effort="high")
    message = reply.json()["choices"][0]["message"]

    assert (message["reasoning"], message["content"]) == ("Short.", "Hello")
    assert reply.json()["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}
    assert reply.json()["usage"]["prompt_tokens"] == 70
    assert reply.headers["x-served-by"] == "lmstudio:openai/gpt-oss-20b"
    assert server.asked[0]["model"] == "openai/gpt-oss-20b"
    assert server.asked[0]["reasoning_effort"] == "high"


async def test_think_tags_cut_over_chunks_are_the_analysis_channel(house: Any, dialects: Any, running: Any) -> None:
    async with (
        running(dialects["think"]()) as server,
        house(servers={"b": {"url": server.url, "type": "vllm"}}) as ours,
    ):
        stream = await ours.openai.chat.completions.create(
            model="gpt-oss-20b", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]

    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == "Hmm."
    assert "".join(delta.content or "" for delta in deltas) == "Hello <think> there"


async def test_calls_that_all_have_index_0_stay_apart(house: Any, dialects: Any, running: Any) -> None:
    async with running(dialects["ollama"]()) as server, house(servers={"ollama": {"url": server.url}}) as ours:
        reply = await ours.ask("ollama:gpt-oss:20b", tools=[TOOL])
    choice = reply.json()["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert [(c["id"], c["function"]["arguments"]) for c in choice["message"]["tool_calls"]] == [
        ("call_1", '{"city":"Oslo"}'),
        ("call_2", '{"city":"Oslo"}'),
    ]
    assert choice["message"]["reasoning"] == "Weather, twice."


async def test_one_call_is_all_that_comes_where_one_is_allowed(house: Any, dialects: Any, running: Any) -> None:
    async with running(dialects["ollama"]()) as server, house(servers={"ollama": {"url": server.url}}) as ours:
        reply = await ours.ask("gpt-oss:20b", tools=[TOOL], parallel_tool_calls=False)

    assert len(reply.json()["choices"][0]["message"]["tool_calls"]) == 1


async def test_another_copy_of_this_server_keeps_every_channel(house: Any) -> None:
    async with (
        house(name="gpt-oss-20b") as other,
        house(servers={"other": {"url": other.url, "type": "serving"}}) as ours,
    ):
        here = (await ours.ask("other:gpt-oss-20b", max_reasoning_tokens=100)).json()
        there = (await other.ask("gpt-oss-20b", max_reasoning_tokens=100)).json()

    assert here["choices"] == there["choices"]
    assert here["usage"] == there["usage"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_other_apis_reach_the_same_models(house: Any, dialects: Any, running: Any, path: str) -> None:
    async with running(dialects["lmstudio"]()) as server, house(servers={"lmstudio": {"url": server.url}}) as ours:
        messages = [{"role": "user", "content": "Hi"}]
        further = {"messages": messages, "max_tokens": 99} if path == "/v1/messages" else {"input": "Hi"}
        reply = await ours.http.post(path, json={"model": "openai/gpt-oss-20b", **further})

    assert reply.status_code == 200, reply.text
    assert "Hello" in reply.text
    assert ("Short." in reply.text) == (path == "/v1/responses")  # Anthropic's API shows thinking on request


async def test_apis_of_tokens_refuse_models_of_other_servers(house: Any, dialects: Any, running: Any) -> None:
    async with running(dialects["lmstudio"]()) as server, house(servers={"lmstudio": {"url": server.url}}) as ours:
        reply = await ours.http.post("/v1/completions", json={"model": "openai/gpt-oss-20b", "prompt": "x"})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    assert "/v1/chat/completions" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"top_k": 5}, "top_k"), ({"n": 2}, "n"), ({"max_reasoning_tokens": 5}, "max_reasoning_tokens")],
)
async def test_what_a_server_does_not_know_is_refused_by_name(
    house: Any, dialects: Any, running: Any, fields: Any, param: str
) -> None:
    async with running(dialects["ollama"]()) as server, house(servers={"ollama": {"url": server.url}}) as ours:
        reply = await ours.ask("gpt-oss:20b", **fields)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert server.asked == []


async def test_nothing_of_this_machine_is_sent_along(
    house: Any, dialects: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: yes")
    async with running(dialects["lmstudio"]()) as server, house(servers={"lmstudio": {"url": server.url}}) as ours:
        assert (await ours.ask("openai/gpt-oss-20b")).status_code == 200

    assert not {name for name in server.sent_headers[0] if name.startswith(("x-", "openai-"))}
