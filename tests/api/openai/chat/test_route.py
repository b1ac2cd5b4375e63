from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from serving.engine.scripted import ScriptLine

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def test_an_answer_has_content_and_reasoning_apart_and_usage_that_adds_up(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="demo", messages=[HELLO])
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.created == 1_760_000_000
    assert completion.model == "demo"
    (choice,) = completion.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == "Hello there!"
    assert choice.message.refusal is None
    assert choice.message.model_extra == dict.fromkeys(("reasoning", "reasoning_content"), "Somebody greets me.")
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens == len(served.engine.requests[0].prompt_token_ids)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details is not None
    # "Somebody greets me." is 6 tokens; the rest are the answer's 3 and Harmony's own.
    assert usage.completion_tokens_details.reasoning_tokens == 6
    assert usage.completion_tokens > 6 + 3
    assert usage.prompt_tokens_details.cached_tokens == 0


async def test_the_reply_has_openai_fields_and_no_empty_ones_of_ours(serve: Serve) -> None:
    async with serve(ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>")) as served:
        reply = (await served.chat()).json()
    assert set(reply) == {"id", "object", "created", "model", "choices", "usage"}
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


async def test_the_model_is_named_as_it_was_asked_for(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="openai/gpt-oss-20b", messages=[HELLO])
    assert completion.model == "openai/gpt-oss-20b"


async def test_a_call_comes_with_its_preamble(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="demo", messages=[WEATHER], tools=[TOOL])
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.model_extra == {
        "reasoning": "A tool has this.",
        "reasoning_content": "A tool has this.",
        "commentary": "Let me look.",
    }
    (call,) = choice.message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.id
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Zürich"}')


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_can_be_sent_back_as_the_client_made_it(served: Served, streamed: bool) -> None:
    messages: list[Any] = [WEATHER]
    completions = served.openai.chat.completions
    if streamed:
        async with completions.stream(model="demo", messages=messages, tools=[TOOL]) as events:
            message: Any = (await events.get_final_completion()).choices[0].message
    else:
        message = (await completions.create(model="demo", messages=messages, tools=[TOOL])).choices[0].message
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}, HELLO]
    completion = await completions.create(model="demo", messages=messages, tools=[TOOL])
    assert completion.choices[0].message.content == "Hello there!"


async def test_n_choices_come_by_index(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="demo", messages=[HELLO], n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert {choice.message.content for choice in completion.choices} == {"Hello there!"}
    alone = await served.openai.chat.completions.create(model="demo", messages=[HELLO])
    assert completion.usage is not None
    assert alone.usage is not None
    assert completion.usage.completion_tokens == 3 * alone.usage.completion_tokens
    assert completion.usage.prompt_tokens == alone.usage.prompt_tokens


async def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="demo", messages=[HELLO], stop=" there")
    assert completion.choices[0].message.content == "Hello"
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer(served: Served, field: str) -> None:
    reply = (await served.chat(**{field: 5})).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5


async def test_logprobs_are_the_tokens_of_the_content(served: Served) -> None:
    completion = await served.openai.chat.completions.create(
        model="demo", messages=[HELLO], logprobs=True, top_logprobs=2
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.refusal is None
    assert "".join(entry.token for entry in logprobs.content or ()) == "Hello there!"
    assert b"".join(bytes(entry.bytes or ()) for entry in logprobs.content or ()) == b"Hello there!"
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs.content or ())
    assert all(entry.top_logprobs[0].token == entry.token for entry in logprobs.content or ())


async def test_logprobs_without_alternatives(served: Served) -> None:
    completion = await served.openai.chat.completions.create(model="demo", messages=[HELLO], logprobs=True)
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert [entry.top_logprobs for entry in logprobs.content or ()] == [[]] * 3


async def test_include_reasoning_false_leaves_it_out_and_counts_it(served: Served) -> None:
    reply = (await served.chat(include_reasoning=False)).json()
    assert "reasoning" not in reply["choices"][0]["message"]
    assert reply["choices"][0]["message"]["content"] == "Hello there!"
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6


async def test_the_body_need_not_be_declared_json(served: Served) -> None:
    body = b'{"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}'
    reply = await served.http.post("/v1/chat/completions", content=body)
    assert reply.status_code == 200


async def test_whoever_asks_gets_an_answer_of_their_own(served: Served) -> None:
    first, second = (await served.chat()).json(), (await served.chat()).json()
    assert first["id"] != second["id"]
