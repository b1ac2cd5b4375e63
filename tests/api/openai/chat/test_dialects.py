"""Messages as real clients write them, and replies as OpenAI's own client reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from serving.engine.scripted import ScriptLine
from serving.harmony.raw import decode_raw

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
PREAMBLE = "Let me look."
BOTH = (
    f"<|channel|>commentary<|message|>{PREAMBLE}<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Done, or so.<|return|>"
)


async def prompt_of(served: Served, *messages: Any, **fields: Any) -> str:
    """The prompt that these messages become, spelled."""
    reply = await served.chat(messages=list(messages), **fields)
    assert reply.status_code == 200, reply.text
    return decode_raw(served.engine.requests[-1].prompt_token_ids, skip_special=False)


def loop(result: Any = "sunny", **assistant: Any) -> list[Any]:
    """A conversation in the middle of a tool loop."""
    said = {"role": "assistant", "content": None, "tool_calls": [CALL], **assistant}
    return [WEATHER, said, {"role": "tool", "tool_call_id": "c1", "content": result}]


async def test_names_are_shown_to_the_model(served: Served) -> None:
    prompt = await prompt_of(
        served,
        {"role": "system", "content": "Be kind.", "name": "Host"},
        {"role": "user", "content": "Hi", "name": "bob"},
        {"role": "assistant", "content": "Hi!", "name": "weather_agent"},
        {"role": "user", "content": "And you?", "name": "Ann Lee"},
    )

    assert "# Instructions\n\nHost:\nBe kind.<|end|>" in prompt
    assert "<|start|>user:bob<|message|>Hi<|end|>" in prompt
    assert "<|start|>assistant:weather_agent<|channel|>final<|message|>Hi!<|end|>" in prompt
    assert prompt.endswith("<|start|>user:Ann_Lee<|message|>And you?<|end|><|start|>assistant")


@pytest.mark.parametrize("content", [None, [], "", [{"type": "text", "text": ""}]])
async def test_an_empty_result_is_a_result(served: Served, content: Any) -> None:
    prompt = await prompt_of(served, *loop(content), tools=[TOOL])

    assert prompt.endswith("to=assistant<|channel|>commentary<|message|><|end|><|start|>assistant")


@pytest.mark.parametrize("empty", [None, [], ""])
@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
async def test_a_message_may_be_empty(served: Served, role: str, empty: Any) -> None:
    without = await prompt_of(served, HELLO, HELLO)

    prompt = await prompt_of(served, {"role": role, "content": empty}, HELLO, HELLO)

    assert prompt.replace("<|start|>user<|message|><|end|>", "", role == "user") == without


@pytest.mark.parametrize("empty", [None, [], ""])
async def test_an_assistant_with_calls_needs_no_content(served: Served, empty: Any) -> None:
    assert await prompt_of(served, *loop(content=empty), tools=[TOOL]) == await prompt_of(served, *loop(), tools=[TOOL])


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "I look it up."},
        {"reasoning_content": "I look it up."},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I look it up.", "signature": ""}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "I look it up.", "format": "x", "index": 0}]},
        {"content": [{"type": "thinking", "thinking": "I look it up."}]},
        {"content": [{"type": "reasoning", "text": "I look it up."}, {"type": "tool_use", "id": "c1", "input": {}}]},
    ],
)
async def test_reasoning_comes_back_in_any_clients_form(served: Served, fields: Any) -> None:
    prompt = await prompt_of(served, *loop(**fields), tools=[TOOL])

    assert "<|channel|>analysis<|message|>I look it up.<|end|>" in prompt


@pytest.mark.parametrize(
    "fields",
    [
        {"provider_specific_fields": {"refusal": None}},
        {"annotations": [{"type": "url_citation"}]},
        {"id": 7},
        {"parsed": {"a": 1}, "function_call": None, "audio": None, "refusal": None},
        {"channel": "analysisfinal", "thinking": {"analysis": ""}, "reasoning_truncated": True},
        {"content": [{"type": "output_text", "text": "x", "annotations": [], "cache_control": {"type": "ephemeral"}}]},
    ],
)
async def test_what_clients_hang_on_messages_is_taken_without_a_word(served: Served, fields: Any) -> None:
    reply = await served.chat(messages=[HELLO, {"role": "assistant", "content": "x", **fields}, HELLO])

    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}, "image left out"),
        ({"type": "input_audio", "input_audio": {"data": "a", "format": "wav"}}, "audio left out"),
        ({"type": "file", "file": {"file_id": "f"}}, "file left out"),
        ({"type": "resource_link", "uri": "x"}, "resource_link left out"),
    ],
)
async def test_media_in_a_result_become_words_and_in_a_users_message_a_400(
    served: Served, part: Any, words: str
) -> None:
    prompt = await prompt_of(served, *loop([{"type": "text", "text": "See: "}, part]), tools=[TOOL])
    asked = await served.chat(messages=[{"role": "user", "content": [part]}])

    assert f"See: [{words}: this model reads text alone]<|end|>" in prompt
    assert (asked.status_code, asked.json()["error"]["param"].split(".")[0]) == (400, "messages[0]")


# What the replies say.


async def added_up(served: Served, *messages: Any, **fields: Any) -> Any:
    """The message that OpenAI's stream helper makes of a stream."""
    async with served.openai.chat.completions.stream(model="demo", messages=list(messages), **fields) as stream:
        async for _ in stream:
            pass
        return (await stream.get_final_completion()).choices[0].message


async def whole(served: Served, *messages: Any, **fields: Any) -> Any:
    reply = await served.openai.chat.completions.create(model="demo", messages=list(messages), **fields)
    return reply.choices[0].message


asked_either_way = pytest.mark.parametrize("ask", [whole, added_up])


@asked_either_way
async def test_the_analysis_has_both_of_its_names(served: Served, ask: Any) -> None:
    message = await ask(served, HELLO)

    assert message.model_extra["reasoning"] == message.model_extra["reasoning_content"] == "Somebody greets me."
    assert "channel" not in message.model_extra


@asked_either_way
async def test_the_operator_may_leave_the_second_name_out(serve: Serve, ask: Any) -> None:
    async with serve(reasoning_content=False) as served:
        assert "reasoning_content" not in (await ask(served, HELLO)).model_extra


@asked_either_way
@pytest.mark.parametrize(
    ("setting", "content", "commentary"),
    [("field", "", PREAMBLE), ("content", PREAMBLE, None), ("both", PREAMBLE, PREAMBLE)],
)
async def test_a_preamble_is_where_the_setting_says(
    serve: Serve, ask: Any, setting: str, content: str, commentary: str | None
) -> None:
    async with serve(commentary=setting) as served:
        message = await ask(served, WEATHER, tools=[TOOL])

    assert message.tool_calls
    assert (message.content or "") == content
    assert message.model_extra.get("commentary") == commentary


@asked_either_way
async def test_by_default_a_client_that_knows_content_alone_sees_the_preamble(served: Served, ask: Any) -> None:
    assert (await ask(served, WEATHER, tools=[TOOL])).content == PREAMBLE


@asked_either_way
async def test_an_answer_after_a_preamble_is_set_apart(serve: Serve, ask: Any) -> None:
    async with serve(ScriptLine(completion=BOTH)) as served:
        message = await ask(served, HELLO)

    assert message.content == f"{PREAMBLE}\n\nDone, or so."


@asked_either_way
async def test_an_answer_of_a_form_is_of_that_form_alone(serve: Serve, ask: Any) -> None:
    line = BOTH.replace("Done, or so.", "{}")
    async with serve(ScriptLine(completion=line)) as served:
        message = await ask(served, HELLO, response_format={"type": "json_object"})

    assert json.loads(message.content) == {}
    assert message.model_extra["commentary"] == PREAMBLE


@asked_either_way
@pytest.mark.parametrize("setting", ["field", "content", "both"])
@pytest.mark.parametrize("kept", ["all", "content"])
async def test_a_preamble_comes_back_once_from_either_place(serve: Serve, ask: Any, setting: str, kept: str) -> None:
    async with serve(commentary=setting) as served:
        message = (await ask(served, WEATHER, tools=[TOOL])).model_dump(exclude_none=True)
        if kept == "content" and setting != "field":
            message.pop("commentary", None)
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
        prompt = await prompt_of(served, WEATHER, message, result, tools=[TOOL])

    assert prompt.count(PREAMBLE) == 1
    assert f"<|channel|>commentary<|message|>{PREAMBLE}<|end|>" in prompt


@asked_either_way
async def test_an_answer_after_a_preamble_comes_back_as_both(serve: Serve, ask: Any) -> None:
    async with serve(ScriptLine(completion=BOTH)) as served:
        message = (await ask(served, HELLO)).model_dump(exclude_none=True)
        prompt = await prompt_of(served, HELLO, message, HELLO)

    assert f"<|channel|>commentary<|message|>{PREAMBLE}<|end|>" in prompt
    assert "<|channel|>final<|message|>Done, or so.<|end|>" in prompt
