"""POST /v1/messages through Anthropic's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
import yaml
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from pydantic import BaseModel

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode
from serving.settings.keys import new_key, new_salt
from serving.settings.models import ModelSettings
from serving.settings.reasoning import ReasoningSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served, Until

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {
    "name": "get_weather",
    "description": "Weather now",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
ASKED: Any = {"model": "demo", "max_tokens": 2000, "messages": [HELLO]}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncAnthropic]:
    async with client_of(served) as anthropic_client:
        yield anthropic_client


def client_of(served: Served) -> AsyncAnthropic:
    base = f"http://{served.host}:{served.port}"
    # Nothing here is TLS, and reading certificates takes longer than most tests.
    transport = DefaultAsyncHttpxClient(verify=False)
    return AsyncAnthropic(base_url=base, api_key="none", max_retries=0, http_client=transport)


async def post(served: Served, **fields: Any) -> Any:
    return await served.http.post("/v1/messages", json={**ASKED, **fields})


def prompt_of(served: Served) -> str:
    return decode(served.engine.requests[-1].prompt_token_ids)


async def test_an_answer_is_a_message(served: Served, client: AsyncAnthropic) -> None:
    message = await client.messages.create(**ASKED)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "demo")
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "Hello there!"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert message.usage.cache_read_input_tokens == 0
    details = message.usage.output_tokens_details
    assert details is not None
    assert 0 < details.thinking_tokens < message.usage.output_tokens
    assert message._request_id is not None
    assert message._request_id.startswith("req_")


async def test_thinking_is_shown_where_asked_for(served: Served, client: AsyncAnthropic) -> None:
    message = await client.messages.create(**ASKED, thinking=THINKING)
    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "Somebody greets me.", "signature": "unsigned"},
        {"type": "text", "text": "Hello there!"},
    ]


@pytest.mark.parametrize(
    ("fields", "effort", "shown"),
    [
        ({}, "medium", False),
        ({"thinking": {"type": "disabled"}}, "low", False),
        ({"thinking": {"type": "adaptive"}}, "medium", True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "medium", False),
        ({"thinking": {"type": "enabled", "budget_tokens": 2047}}, "low", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "medium", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "high", True),
        ({"output_config": {"effort": "high"}}, "high", False),
        ({"output_config": {"effort": "max"}}, "high", False),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 4096}}, "low", True),
    ],
)
async def test_effort_follows_what_was_asked_for(served: Served, fields: Any, effort: str, shown: bool) -> None:
    reply = await post(served, max_tokens=9000, **fields)
    assert reply.headers["x-reasoning-effort"] == effort
    assert f"Reasoning: {effort}" in prompt_of(served)
    assert ("thinking" in [block["type"] for block in reply.json()["content"]]) == shown


async def test_a_budget_ends_the_thinking(served: Served, client: AsyncAnthropic) -> None:
    message = await client.messages.create(**ASKED, thinking={"type": "enabled", "budget_tokens": 2})
    assert message.content[0].type == "thinking"
    assert message.content[0].thinking == "Somebody"


async def test_a_stream_puts_together_what_the_whole_reply_says(client: AsyncAnthropic) -> None:
    whole = await client.messages.create(**ASKED, thinking=THINKING)
    async with client.messages.stream(**ASKED, thinking=THINKING) as events:
        kinds = [event.type async for event in events]
        streamed = await events.get_final_message()
    assert {"thinking", "signature", "text"} <= set(kinds)
    assert streamed.to_dict() == {**whole.to_dict(), "id": streamed.id, "stop_details": None}


async def test_the_events_come_in_anthropics_order(served: Served) -> None:
    served.engine.in_turn = [ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>")]
    reply = await post(served, stream=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = [frame.split("\n") for frame in reply.text.strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [name.removeprefix("event: ") for name, _ in frames] == [event["type"] for event in events]
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, delta = events[0]["message"], events[4]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["input_tokens"] == delta["usage"]["input_tokens"] > 0
    assert events[2] == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


async def test_a_silent_stream_is_pinged(serve: Serve) -> None:
    line = ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>", step_ms=60)
    async with serve(line, keep_alive_s=0.02) as served:
        reply = await post(served, stream=True)
        assert 'event: ping\ndata: {"type":"ping"}\n\n' in reply.text
        async with client_of(served) as client, client.messages.stream(**ASKED) as events:
            assert await events.get_final_text() == "Hi"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_and_its_result_answered(served: Served, client: AsyncAnthropic, streamed: bool) -> None:
    fields: Any = {**ASKED, "tools": [TOOL], "thinking": THINKING}
    asked = {**fields, "messages": [WEATHER]}
    if streamed:
        async with client.messages.stream(**asked) as events:
            message: Any = await events.get_final_message()
    else:
        message = await client.messages.create(**asked)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    assert message.content[1].text == "Let me look."
    use = message.content[2]
    assert use.id.startswith("toolu_")
    assert (use.name, use.input) == ("get_weather", {"city": "Zürich"})

    served.engine.in_turn = [ScriptLine(completion="<|channel|>final<|message|>Sunny.<|return|>")]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    turns: Any = [WEATHER, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = await client.messages.create(**{**fields, "messages": turns})
    assert answer.content[0].to_dict() == {"type": "text", "text": "Sunny."}
    assert prompt_of(served).endswith(
        "<|start|>assistant<|channel|>analysis<|message|>A tool has this.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json"
        '<|message|>{"city":"Zürich"}<|call|>'
        "<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>sunny<|end|>"
        "<|start|>assistant"
    )


async def test_the_clients_tool_runner_runs_to_the_answer(served: Served, client: AsyncAnthropic) -> None:
    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """Weather now.

        Args:
            city: Where.
        """
        return f"sunny in {city}"

    served.engine.in_turn = [
        ScriptLine(
            completion="<|channel|>commentary to=functions.get_weather <|constrain|>json"
            '<|message|>{"city": "Rome"}<|call|>'
        ),
        ScriptLine(completion="<|channel|>final<|message|>It is sunny.<|return|>"),
    ]
    runner = client.beta.messages.tool_runner(**{**ASKED, "messages": [WEATHER]}, tools=[get_weather])
    last = await runner.until_done()
    assert [block.type for block in last.content] == ["text"]
    assert "sunny in Rome" in prompt_of(served)


@pytest.mark.parametrize(
    ("choice", "calls"),
    [({"type": "any"}, True), ({"type": "tool", "name": "get_weather"}, True), ({"type": "none"}, False)],
)
async def test_a_tool_choice_is_kept(served: Served, choice: Any, calls: bool) -> None:
    reply = (await post(served, tools=[TOOL], tool_choice=choice)).json()
    assert ("get_weather" in prompt_of(served)) == calls
    assert ("tool_use" in [block["type"] for block in reply["content"]]) == calls


async def test_parallel_tool_use_can_be_turned_off(served: Served) -> None:
    call = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"A"}<|call|>'
    two = ScriptLine(completion=f"{call}<|start|>assistant{call}")
    served.engine.in_turn = [two, two]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    replies = [(await post(served, tools=[TOOL], **fields)).json() for fields in ({}, {"tool_choice": choice})]
    assert len(replies[1]["content"]) == 1
    assert replies[1]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_stop_sequence_that_matched_is_told(client: AsyncAnthropic, streamed: bool) -> None:
    fields: Any = {**ASKED, "stop_sequences": ["never", " there"]}
    if streamed:
        async with client.messages.stream(**fields) as events:
            message: Any = await events.get_final_message()
    else:
        message = await client.messages.create(**fields)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " there")
    assert message.content[0].text == "Hello"


async def test_max_tokens_ends_an_answer(client: AsyncAnthropic) -> None:
    message = await client.messages.create(**{**ASKED, "max_tokens": 3})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    assert message.content == []


async def test_a_call_that_is_no_json_keeps_its_text(served: Served) -> None:
    call = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{city: Rome<|call|>"
    served.engine.in_turn = [
        ScriptLine(completion=call),
        ScriptLine(completion="<|channel|>final<|message|>Hm<|return|>"),
    ]
    block = (await post(served, tools=[TOOL])).json()["content"][0]
    assert block["input"] == {"INVALID_JSON": "{city: Rome"}
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "no JSON", "is_error": True}
    turns = [WEATHER, {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]
    await post(served, tools=[TOOL], messages=turns)
    assert "<|message|>{city: Rome<|call|>" in prompt_of(served)
    assert "<|message|>Error: no JSON<|end|>" in prompt_of(served)


class Person(BaseModel):
    name: str
    age: int


async def test_the_parse_helper_gets_its_model(served: Served, client: AsyncAnthropic) -> None:
    served.engine.in_turn = [ScriptLine(completion='<|channel|>final<|message|>{"name":"Ann","age":7}<|return|>')]
    message = await client.messages.parse(**ASKED, output_format=Person)
    assert message.parsed_output == Person(name="Ann", age=7)
    assert any(request.constraint for request in served.engine.requests)


async def test_system_and_sampling_reach_the_engine(served: Served, client: AsyncAnthropic) -> None:
    system: Any = [
        {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be brief."},
    ]
    await client.messages.create(
        **ASKED, system=system, extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 7}, metadata={"user_id": "7"}
    )
    sampling = served.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.5, 0.9, 7, 2000)
    assert "# Instructions\n\nBe kind.\n\nBe brief." in prompt_of(served)


async def test_tokens_are_counted_as_the_answer_counts_them(client: AsyncAnthropic) -> None:
    prompt: Any = {"model": "demo", "messages": [WEATHER], "tools": [TOOL], "system": "Be brief."}
    counted = await client.messages.count_tokens(**prompt)
    message = await client.messages.create(**prompt, max_tokens=100)
    assert counted.input_tokens == message.usage.input_tokens


USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}


async def test_a_result_stands_right_after_its_call_whatever_is_said_before_it(served: Served) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "RES"}
    turn = {"role": "user", "content": [{"type": "text", "text": "note"}, result]}
    reply = await post(served, messages=[HELLO, {"role": "assistant", "content": [USE]}, turn], tools=[TOOL])
    assert reply.status_code == 200, reply.text
    prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert "<|call|><|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>RES<|end|>" in prompt


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "at least 1"),
        ({"messages": []}, "messages"),
        ({"messages": [HELLO, {"role": "assistant", "content": "Well"}]}, "end with the user"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'user', 'assistant'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no images"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "no blocks of type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]}]},
            "messages[0].content[0].tool_use_id names none",
        ),
        ({"messages": [HELLO, {"role": "assistant", "content": [USE, USE]}, HELLO]}, "the same id and no result"),
        ({"thinking": {"type": "enabled"}}, "needs 'budget_tokens'"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "must be less"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "does not run"),
        ({"tools": [{**TOOL, "name": "<|x"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "input_schema": {"$ref": "#/none"}}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "no 'tools'"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "needs 'name'"),
        ({"logprobs": True}, "Unsupported parameter: 'logprobs'"),
        ({"container": "abc"}, "container"),
    ],
)  # fmt: skip
async def test_a_mistake_is_told_in_anthropics_form(client: AsyncAnthropic, fields: Any, words: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        await client.messages.create(max_tokens=1, model="", messages=[], extra_body={**ASKED, **fields})
    body: Any = raised.value.body
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message", "details"}
    assert words in body["error"]["message"]
    assert raised.value.request_id == body["request_id"]


async def test_a_budget_may_not_be_refused_by_chats_name(serve: Serve) -> None:
    strict = ModelSettings(reasoning=ReasoningSettings(unsupported_effort="refuse"))
    async with serve(models={"demo": strict}) as served:
        reply = await post(served, output_config={"effort": "max"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("output_config.effort: ")


async def test_a_model_that_is_not_there_is_not_found(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="'nope' does not exist"):
        await client.messages.create(**{**ASKED, "model": "nope"})


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "", 405), ("POST", "/batches", 404)])
async def test_what_there_is_not_is_told_in_that_form_too(served: Served, method: str, path: str, status: int) -> None:
    reply = await served.http.request(method, f"/v1/messages{path}")
    assert (reply.status_code, reply.json()["type"]) == (status, "error")


async def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error(served: Served, client: AsyncAnthropic) -> None:
    served.engine.fails_after = 2
    async with client.messages.stream(**ASKED) as events:
        first = await anext(events)
        with pytest.raises(anthropic.APIStatusError) as raised:
            await events.until_done()
    assert first.type == "message_start"
    body: Any = raised.value.body
    assert body["error"]["type"] == "api_error"
    assert "secret" not in body["error"]["message"]


async def test_a_client_that_leaves_stops_the_engine(served: Served, client: AsyncAnthropic, until: Until) -> None:
    asked = {**ASKED, "messages": [{"role": "user", "content": "slowly"}]}
    async with client.messages.stream(**asked) as events:
        async for _ in events.text_stream:
            break
    await until(lambda: served.engine.running == 0)


async def test_an_older_clients_header_carries_the_key(serve: Serve, tmp_path: Path) -> None:
    key = new_key()
    line = {"id": key.id, "hash": str(key.hashed(new_salt()))}
    path = tmp_path / "teams.yaml"
    path.write_text(yaml.safe_dump({"teams": {"research": {"keys": [line]}}}))
    async with serve(further={"teams_file": str(path)}) as served:
        answered = await served.http.post("/v1/messages", json=ASKED, headers={"x-api-key": key.text})
        refused = await served.http.post("/v1/messages", json=ASKED, headers={"x-api-key": new_key().text})
    assert answered.status_code == 200
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"
