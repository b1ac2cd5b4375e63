from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.http_server import Served

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {"type": "function", "function": {"name": "get_weather"}}


def data_of(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200
    frames = reply.text.split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    return [frame.removeprefix("data: ") for frame in frames]


async def test_a_stream_says_what_the_whole_reply_says(served: Served) -> None:
    whole = await served.openai.chat.completions.create(model="demo", messages=[HELLO])
    content = reasoning = finish = ""
    stream = await served.openai.chat.completions.create(
        model="demo", messages=[HELLO], stream=True, stream_options={"include_usage": True}
    )
    usage = None
    async for chunk in stream:
        usage = chunk.usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning", "")
            finish += choice.finish_reason or ""
    assert content == whole.choices[0].message.content
    assert {"reasoning": reasoning, "reasoning_content": reasoning} == whole.choices[0].message.model_extra
    assert finish == "stop"
    assert usage == whole.usage


async def test_a_stream_begins_with_the_role_and_ends_with_done(served: Served) -> None:
    reply = await served.chat(stream=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    first, *_, last, done = data_of(reply)
    assert json.loads(first)["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(last)["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


async def test_channels_are_named_where_they_open(served: Served) -> None:
    chunks = [json.loads(data) for data in data_of(await served.chat(stream=True))[:-1]]
    opening = [chunk["choices"][0] for chunk in chunks if "channel" in chunk["choices"][0]]
    assert [choice["channel"] for choice in opening] == ["analysis", "final"]
    assert [set(choice["delta"]) for choice in opening] == [{"reasoning", "reasoning_content"}, {"content"}]


async def test_all_chunks_are_of_one_completion(served: Served) -> None:
    chunks = [json.loads(data) for data in data_of(await served.chat(stream=True))[:-1]]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1


async def test_usage_comes_last_and_only_where_asked_for(served: Served) -> None:
    chunks = [json.loads(data) for data in data_of(await served.chat(stream=True))[:-1]]
    assert all("usage" not in chunk for chunk in chunks)
    asked = await served.chat(stream=True, stream_options={"include_usage": True})
    *others, last = [json.loads(data) for data in data_of(asked)[:-1]]
    assert all(chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]


async def test_the_clients_stream_helper_puts_a_call_together(served: Served) -> None:
    async with served.openai.chat.completions.stream(model="demo", messages=[WEATHER], tools=[TOOL]) as events:
        kinds = [event.type async for event in events]
        completion = await events.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert kinds.count("tool_calls.function.arguments.done") == 1
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Zürich"}')
    extra = choice.message.model_extra or {}
    assert (extra["reasoning"], extra["commentary"]) == ("A tool has this.", "Let me look.")


async def test_choices_of_a_stream_are_told_apart_by_index(served: Served) -> None:
    async with served.openai.chat.completions.stream(model="demo", messages=[HELLO], n=2) as events:
        completion = await events.get_final_completion()
    assert [choice.message.content for choice in completion.choices] == ["Hello there!"] * 2
    assert [choice.finish_reason for choice in completion.choices] == ["stop"] * 2


@pytest.mark.parametrize("top", [0, 3])
async def test_streamed_logprobs_are_those_of_the_whole_reply(served: Served, top: int) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": top}
    whole = (await served.chat(**fields)).json()["choices"][0]["logprobs"]
    joined: dict[str, list[Any]] = {"content": [], "reasoning": []}
    for data in data_of(await served.chat(stream=True, **fields))[:-1]:
        logprobs = json.loads(data)["choices"][0]["logprobs"] or {}
        for field, entries in joined.items():
            entries += logprobs.get(field) or []
    assert joined["content"] == whole["content"]
    assert joined["reasoning"] == whole["reasoning"]


async def test_the_clients_stream_helper_takes_logprobs(served: Served) -> None:
    async with served.openai.chat.completions.stream(model="demo", messages=[HELLO], logprobs=True) as events:
        completion = await events.get_final_completion()
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert "".join(entry.token for entry in logprobs.content or ()) == "Hello there!"


async def test_a_stop_string_ends_a_stream(served: Served) -> None:
    async with served.openai.chat.completions.stream(model="demo", messages=[HELLO], stop=[" there"]) as events:
        completion = await events.get_final_completion()
    assert completion.choices[0].message.content == "Hello"


async def test_include_reasoning_false_leaves_it_out_of_streams(served: Served) -> None:
    reply = await served.chat(stream=True, include_reasoning=False)
    assert "reasoning" not in reply.text
    assert "analysis" not in reply.text
