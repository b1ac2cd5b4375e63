from __future__ import annotations

import json
from typing import Any

import pytest

from serving.api.openai.chat.request import ChatCompletionRequest, parse_chat_request
from serving.errors import ApiError, InvalidValueError, UnsupportedParameterError

HELLO = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def parse(**fields: Any) -> ChatCompletionRequest:
    return parse_chat_request(json.dumps({"model": "demo", "messages": [HELLO], **fields}).encode())


def refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


def refused(expected: type[ApiError], param: str, **fields: Any) -> ApiError:
    error = refusal(**fields)
    assert type(error) is expected
    assert error.param == param
    return error


def test_a_request_may_use_every_field_at_once() -> None:
    request = parse(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
            {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "e"}]},
            {"role": "assistant", "content": "f", "refusal": None},
            HELLO,
        ],
        max_completion_tokens=7,
        max_tokens=7,
        temperature=0.5,
        top_p=1,
        top_k=-1,
        min_p=0.1,
        n=2,
        stop=["x", "y"],
        seed=-5,
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.1,
        logit_bias={"200002": -100},
        logprobs=True,
        top_logprobs=20,
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="high",
        include_reasoning=False,
        tools=[TOOL],
        tool_choice="auto",
    )
    assert request.token_limit == 7
    assert len(request.messages) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", "ann"),
        ("metadata", {"a": "b"}),
        ("store", True),
        ("service_tier", "auto"),
        ("safety_identifier", "s"),
        ("prompt_cache_key", "k"),
        ("prompt_cache_retention", "24h"),
        ("prediction", {"type": "content", "content": "x"}),
        ("response_format", {"type": "text"}),
        ("parallel_tool_calls", True),
        ("modalities", ["text"]),
        ("functions", []),
        ("function_call", "auto"),
        ("use_beam_search", False),
        ("best_of", 1),
        ("length_penalty", 1.0),
        ("prompt_logprobs", None),
        ("allowed_token_ids", None),
        ("skip_special_tokens", False),
        ("tool_choice", "none"),
    ],
)
def test_what_cannot_change_the_answer_is_accepted(field: str, value: object) -> None:
    parse(**{field: value})


@pytest.mark.parametrize("field", sorted(set(ChatCompletionRequest.model_fields) - {"model", "messages"}))
def test_null_means_absent(field: str) -> None:
    assert parse(**{field: None}) == parse()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x", "format": "mp3"}),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("web_search_options", {}),
        ("use_beam_search", True),
        ("best_of", 2),
        ("prompt_logprobs", 0),
        ("allowed_token_ids", [1]),
        ("continue_final_message", True),
        ("add_generation_prompt", False),
        ("input", "Hi"),
    ],
)
def test_what_would_change_the_answer_and_is_not_supported_is_refused_by_name(field: str, value: object) -> None:
    error = refused(UnsupportedParameterError, field, **{field: value})
    assert error.code == "unsupported_parameter"
    assert field in error.message


@pytest.mark.parametrize("value", [1, False, "x" * 100])
def test_a_strict_reading_refuses_unknown_parameters_by_name(value: object) -> None:
    error = refused(UnsupportedParameterError, "best_off", best_off=value)
    assert error.code == "unknown_parameter"
    assert "'best_off'" in error.message


def test_even_a_strict_reading_takes_null_for_absent() -> None:
    assert parse(best_off=None) == parse()


def test_a_long_unknown_name_is_not_echoed_in_full() -> None:
    error = refusal(**{"k" * 10_000: 1})
    assert len(error.message) < 200


def test_many_unknown_parameters_are_told_one_at_a_time() -> None:
    assert refusal(**{f"x{i}": i for i in range(100_000)}).param == "x0"


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": "1"}),
        ("temperature", {"temperature": True}),
        ("max_tokens", {"max_tokens": 5.0}),
        ("max_completion_tokens", {"max_completion_tokens": "5"}),
        ("n", {"n": 1.5}),
        ("stream", {"stream": "true"}),
        ("stream", {"stream": 1}),
        ("stop", {"stop": 5}),
        ("stop[1]", {"stop": ["a", 5]}),
        ("logit_bias", {"logit_bias": []}),
        ("logit_bias.5", {"logit_bias": {"5": "x"}}),
        ("model", {"model": 5}),
        ("messages", {"messages": "hello"}),
        ("messages[1]", {"messages": [HELLO, "hello"]}),
        ("messages[0].role", {"messages": [{"role": 5, "content": ""}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
        ("messages[0].content[0]", {"messages": [{"role": "user", "content": ["hello"]}]}),
        ("messages[0].content[0].text", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
        (
            "messages[0].tool_calls[0].function.arguments",
            {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}]},
        ),
        ("tools[0].function.parameters", {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]}),
        ("stream_options.include_usage", {"stream": True, "stream_options": {"include_usage": "yes"}}),
    ],
)
def test_wrong_types_are_refused_with_their_path(param: str, fields: dict[str, Any]) -> None:
    error = refused(InvalidValueError, param, **fields)
    assert error.code == "invalid_type"
    assert "expected" in error.message


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("1e308") * 10),
        ("top_p", 1.1),
        ("top_p", -1),
        ("top_k", -2),
        ("min_p", 2),
        ("n", 0),
        ("n", 129),
        ("max_tokens", 0),
        ("max_completion_tokens", -1),
        ("seed", 2**63),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"201088": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"٣": 1}),
        ("stop", ["x"] * 17),
        ("reasoning_effort", "x" * 65),
        ("max_reasoning_tokens", -1),
        ("min_answer_tokens", -1),
        ("truncation", "middle"),
        ("model", ""),
        ("messages", []),
    ],
)
def test_values_out_of_range_are_refused_by_name(param: str, value: object) -> None:
    # json.dumps writes infinity as a word that is no JSON; 1e999 is how it can arrive.
    body = json.dumps({"model": "demo", "messages": [HELLO], param: value}).replace("Infinity", "1e999")
    with pytest.raises(InvalidValueError) as caught:
        parse_chat_request(body.encode())
    assert caught.value.param == param


def test_top_logprobs_goes_to_20() -> None:
    refused(InvalidValueError, "top_logprobs", logprobs=True, top_logprobs=21)
    assert parse(logprobs=True, top_logprobs=20).top_logprobs == 20


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
        ("top_logprobs", {"top_logprobs": 2}),
        ("top_logprobs", {"top_logprobs": 2, "logprobs": False}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("reasoning.effort", {"reasoning": {"effort": "low"}, "reasoning_effort": "high"}),
        ("reasoning.max_tokens", {"reasoning": {"max_tokens": 5}, "max_reasoning_tokens": 6}),
        ("reasoning.exclude", {"reasoning": {"exclude": True}, "include_reasoning": True}),
        ("min_answer_tokens", {"min_answer_tokens": 9, "max_tokens": 8}),
    ],
)
def test_fields_that_contradict_each_other_are_refused(param: str, fields: dict[str, Any]) -> None:
    refused(InvalidValueError, param, **fields)


def test_missing_fields_are_named() -> None:
    for body, param in ((b'{"messages": []}', "model"), (b'{"model": "demo"}', "messages")):
        with pytest.raises(InvalidValueError) as caught:
            parse_chat_request(body)
        assert caught.value.param == param
    with pytest.raises(InvalidValueError) as caught:
        parse_chat_request(b'{"model": "demo", "messages": [{"content": "x"}]}')
    assert (caught.value.param, caught.value.code) == ("messages[0].role", "missing_required_parameter")


def test_an_unknown_role_is_answered_with_those_there_are() -> None:
    error = refused(InvalidValueError, "messages[1].role", messages=[HELLO, {"role": "function", "content": "x"}])
    for role in ("system", "developer", "user", "assistant", "tool"):
        assert f"'{role}'" in error.message


@pytest.mark.parametrize(
    ("kind", "word"), [("image_url", "images"), ("input_audio", "audio"), ("file", "files"), ("video_url", "video")]
)
def test_parts_that_are_not_text_get_a_clear_refusal(kind: str, word: str) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": kind, kind: {"url": "data:,"}}]
    error = refused(
        UnsupportedParameterError, "messages[1].content[1]", messages=[HELLO, {"role": "user", "content": parts}]
    )
    assert word in error.message


def test_a_part_of_no_known_type_is_refused() -> None:
    refused(
        InvalidValueError, "messages[0].content[0].type", messages=[{"role": "user", "content": [{"type": "poem"}]}]
    )


def test_two_names_of_reasoning_must_agree() -> None:
    message = {"role": "assistant", "content": "x", "reasoning": "a"}
    parse(messages=[{**message, "reasoning_content": "a"}])
    refused(
        InvalidValueError,
        "messages[0].reasoning_content",
        messages=[{**message, "reasoning_content": "b"}],
    )


def test_a_tool_message_must_answer_an_earlier_call() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "7"}
    parse(messages=[HELLO, called, answer])
    parse(messages=[HELLO, called, {**answer, "name": "f"}])
    refused(InvalidValueError, "messages[1].tool_call_id", messages=[HELLO, answer, called])
    refused(
        InvalidValueError, "messages[2].tool_call_id", messages=[HELLO, called, {**answer, "tool_call_id": "call_2"}]
    )
    parse(messages=[HELLO, called, {**answer, "name": "g"}])


def test_two_calls_of_one_id_that_wait_are_refused() -> None:
    twice = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
    once = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "7"}
    refused(InvalidValueError, "messages[1].tool_calls[1].id", messages=[HELLO, twice, answer, answer])
    refused(InvalidValueError, "messages[2].tool_calls[0].id", messages=[HELLO, once, once, answer])
    parse(messages=[HELLO, once, answer, once, answer])


def test_tools_are_functions_of_distinct_names() -> None:
    refused(InvalidValueError, "tools[1].function.name", tools=[TOOL, TOOL])
    refused(InvalidValueError, "tools[0].type", tools=[{"type": "custom"}])
    parse(tools=[{"type": "function", "function": {"name": "f", "strict": False}}])


def test_reasoning_may_be_asked_for_as_openrouters_clients_do() -> None:
    request = parse(reasoning={"effort": "xhigh", "max_tokens": 7, "exclude": True, "enabled": True})
    assert (request.effort, request.reasoning_budget, request.shows_reasoning) == ("xhigh", 7, False)
    same = parse(reasoning_effort="xhigh", max_reasoning_tokens=7, include_reasoning=False)
    assert (same.effort, same.reasoning_budget, same.shows_reasoning) == ("xhigh", 7, False)
    parse(
        reasoning={"effort": "low", "max_tokens": 7, "exclude": False}, reasoning_effort="low", include_reasoning=True
    )
    assert parse(reasoning={"enabled": False}).effort == "none"
    refused(InvalidValueError, "reasoning.effort", reasoning={"effort": 3})


def test_an_answer_may_be_sent_back_with_all_that_it_came_with() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "reasoning": "r",
        "commentary": "c",
        "reasoning_truncated": True,
        "thinking": {"analysis": "r", "commentary": "c"},
        "parsed": {"developer_instructions": None, "history": [], "analysis": "r", "commentary": "c", "final": "x"},
    }
    parse(messages=[HELLO, answer, HELLO])
