"""Fields of vLLM's and OpenRouter's dialects: they have their meaning, or are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serving.engine.base import AS_MANY_AS_FIT
from serving.engine.scripted import ScriptLine
from serving.engine.vllm.sampling import sampling_params
from serving.harmony.raw import decode_raw, encode_raw

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

HELLO: Any = {"role": "user", "content": "Hello!"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BODY: dict[str, Any] = {CHAT: {"messages": [HELLO]}, TEXT: {"prompt": "Hello!"}}


async def ask(served: Served, path: str = CHAT, **fields: Any) -> Any:
    reply = await served.http.post(path, json={"model": "demo", **BODY[path], **fields})
    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers
    return reply


async def prompt_with(served: Served, **fields: Any) -> str:
    await ask(served, **fields)
    return decode_raw(served.engine.requests[-1].prompt_token_ids, skip_special=False)


@pytest.mark.parametrize("path", BODY)
async def test_ignore_eos_and_min_tokens_reach_the_engine_within_max_tokens(served: Served, path: str) -> None:
    await ask(served, path, ignore_eos=True, max_tokens=70)
    await ask(served, path, min_tokens=30, max_tokens=70)
    await ask(served, path, ignore_eos=False, min_tokens=0, max_tokens=70)

    assert [request.sampling.min_tokens for request in served.engine.requests] == [70, 30, 0]
    params = sampling_params(served.engine.requests[0])
    assert (params.min_tokens, params.max_tokens) == (70, 70)


async def test_ignore_eos_without_a_limit_is_bounded_by_the_context(serve: Serve) -> None:
    async with serve(max_model_len=500) as served:
        await ask(served, ignore_eos=True)

    sampling = served.engine.requests[0].sampling
    assert sampling.min_tokens == sampling.max_tokens < 500 < AS_MANY_AS_FIT


@pytest.mark.parametrize("field", [{"ignore_eos": True}, {"min_tokens": 5}])
@pytest.mark.parametrize("path", BODY)
async def test_a_form_ends_where_it_ends(served: Served, path: str, field: Any) -> None:
    body = {"model": "demo", **BODY[path], **field, "response_format": {"type": "json_object"}}
    reply = await served.http.post(path, json=body)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(field)))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("at_once", [1, 100])
async def test_a_token_that_stops_the_answer_is_not_delivered(
    serve: Serve, stream: bool, logprobs: bool, at_once: int
) -> None:
    (there,) = encode_raw(" there", allow_special=False)
    completion = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello there!"
    async with serve(ScriptLine(completion=f"{completion}<|return|>", tokens_per_step=at_once)) as served:
        if not stream:
            reply = (await ask(served, stop_token_ids=[there], logprobs=logprobs)).json()["choices"][0]
            assert (reply["message"]["content"], reply["finish_reason"]) == ("Hello", "stop")
            return
        chunks = await served.openai.chat.completions.create(
            model="demo", messages=[HELLO], stream=True, logprobs=logprobs, extra_body={"stop_token_ids": [there]}
        )
        choices = [choice async for chunk in chunks for choice in chunk.choices]

    assert "".join(choice.delta.content or "" for choice in choices) == "Hello"
    assert choices[-1].finish_reason == "stop"


async def test_a_token_that_stops_a_completion_is_not_delivered(serve: Serve) -> None:
    (there,) = encode_raw(" there", allow_special=False)
    async with serve(ScriptLine(completion="Hello there!<|return|>")) as served:
        choice = (await ask(served, TEXT, stop_token_ids=[there])).json()["choices"][0]

    assert (choice["text"], choice["finish_reason"]) == ("Hello", "stop")


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"chat_template_kwargs": {"reasoning_effort": "high"}}, "high"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "low"),
        ({"chat_template_kwargs": {"thinking": False}}, "low"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "medium"),
        ({"chat_template_kwargs": {}}, "medium"),
        ({"reasoning": {"effort": "high", "exclude": True}}, "high"),
        ({"reasoning": {"enabled": False}}, "low"),
        ({"reasoning": {"enabled": True}}, "medium"),
        ({"reasoning": {}, "reasoning_effort": "high"}, "high"),
    ],
)
async def test_effort_has_many_names(served: Served, fields: Any, effort: str) -> None:
    reply = await ask(served, **fields)

    assert reply.headers["x-reasoning-effort"] == effort


@pytest.mark.parametrize(
    "fields",
    [
        {"skip_special_tokens": False, "spaces_between_special_tokens": True, "add_special_tokens": False},
        {"prompt_logprobs": None, "allowed_token_ids": None, "bad_words": [], "logits_processors": None},
        {"use_beam_search": False, "best_of": 1, "length_penalty": 1.0, "early_stopping": False, "echo": False},
        {"add_generation_prompt": True, "continue_final_message": False, "documents": [], "priority": 0},
        {"request_id": "r", "session_id": "s", "mm_processor_kwargs": {}, "return_tokens_as_token_ids": False},
        {"provider": {"order": ["x"], "data_collection": "deny"}, "usage": {"include": True}, "transforms": []},
        {"plugins": [], "models": ["a", "b"], "route": "fallback", "top_a": 0, "include_reasoning": True},
        {"functions": [], "function_call": "auto", "modalities": ["text"], "service_tier": None},
        {"max_tokens": 50, "max_completion_tokens": 50},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"thinking_token_budget": -1, "reasoning": {"effort": None, "max_tokens": None, "summary": "auto"}},
    ],
)
async def test_what_asks_for_nothing_is_taken(served: Served, fields: Any) -> None:
    await ask(served, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"use_beam_search": True},
        {"best_of": 3},
        {"prompt_logprobs": 1},
        {"allowed_token_ids": [1]},
        {"bad_words": ["x"]},
        {"include_stop_str_in_output": True},
        {"return_token_ids": True},
        {"continue_final_message": True},
        {"chat_template": "{{x}}"},
        {"documents": [{"text": "x"}]},
        {"plugins": [{"id": "web"}]},
        {"chat_template_kwargs": {"builtin_tools": ["python"]}},
    ],
)
async def test_what_would_change_the_answer_is_refused_by_name(served: Served, fields: Any) -> None:
    reply = await served.chat(**fields)

    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(next(iter(fields)))


async def test_vllms_budget_of_thinking_is_ours(serve: Serve) -> None:
    async with serve() as served:
        reply = await ask(served, thinking_token_budget=2)

    assert reply.json()["choices"][0]["message"]["reasoning_truncated"] is True


@pytest.mark.parametrize(
    ("verbosity", "words"), [("low", "Keep the final answer short"), ("high", "Make the final answer detailed")]
)
async def test_verbosity_is_a_line_to_the_model(served: Served, verbosity: str, words: str) -> None:
    asked = await prompt_with(served, verbosity=verbosity, messages=[{"role": "system", "content": "Be kind."}, HELLO])
    medium = await prompt_with(served, verbosity="medium")
    response = await served.http.post(
        "/v1/responses", json={"model": "demo", "input": "Hi", "text": {"verbosity": verbosity}}
    )

    assert f"# Instructions\n\nBe kind.\n\n{words}" in asked
    assert medium == await prompt_with(served)
    assert response.json()["text"]["verbosity"] == verbosity
    assert words in decode_raw(served.engine.requests[-2].prompt_token_ids, skip_special=False)


async def test_a_stream_has_usage_where_openrouters_field_asks(served: Served) -> None:
    reply = await ask(served, stream=True, usage={"include": True})

    assert '"usage":{"prompt_tokens"' in reply.text


async def test_middle_out_leaves_out_the_oldest_turns(serve: Serve) -> None:
    long = [{"role": "user", "content": "word " * 1000}, {"role": "assistant", "content": "x"}, HELLO]
    async with serve(max_model_len=500) as served:
        await ask(served, messages=long, transforms=["middle-out"])

    assert len(served.engine.requests[0].prompt_token_ids) < 400
