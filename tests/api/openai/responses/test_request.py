from __future__ import annotations

import json
from typing import Any

import pytest

from serving.api.openai.responses.items import FunctionCallItem, ItemReference, MessageItem, ReasoningItem, text_of
from serving.api.openai.responses.request import ResponsesRequest, parse_responses_request
from serving.errors import ApiError

MISSING = "missing_required_parameter"
FUNCTION: Any = {"type": "function", "name": "f"}
OTHER: Any = {"type": "function", "name": "g"}
SCHEMA: Any = {"type": "object", "properties": {"a": {"type": "strin"}}}


def parsed(**fields: Any) -> ResponsesRequest:
    return parse_responses_request(json.dumps({"model": "m", "input": "Hello!", **fields}).encode())


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parsed(**fields)
    assert caught.value.status == 400
    return caught.value


def item(**fields: Any) -> Any:
    request = parsed(input=[fields])
    assert not isinstance(request.input, str)
    return request.input[0]


def test_the_least_request() -> None:
    request = parsed()
    assert (request.model, request.input) == ("m", "Hello!")


def test_null_is_absent_everywhere_but_where_a_value_is_needed() -> None:
    fields = dict.fromkeys(field for field in ResponsesRequest.model_fields if field not in ("model", "input"))
    assert parsed(**fields) == parsed()


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
@pytest.mark.parametrize("kind", ["input_text", "output_text", "text"])
def test_messages_of_all_roles_have_text_or_parts_of_it(role: str, kind: str) -> None:
    for content in ("ab", [{"type": kind, "text": "a"}, {"type": kind, "text": "b"}]):
        message = item(role=role, content=content)
        assert isinstance(message, MessageItem)
        assert (message.role, text_of(message.content)) == (role, "ab")


def test_a_refusal_counts_as_what_was_said() -> None:
    message = item(role="assistant", content=[{"type": "refusal", "refusal": "No."}])
    assert text_of(message.content) == "No."


def test_items_come_back_as_clients_dump_them() -> None:
    call = item(
        type="function_call",
        id="fc_1",
        call_id="c",
        name="f",
        arguments="{}",
        status="completed",
        async_=None,
        caller=None,
        namespace=None,
        parsed_arguments={},
    )
    assert isinstance(call, FunctionCallItem)
    reasoning = item(
        type="reasoning",
        id="rs_1",
        summary=[],
        content=[{"type": "reasoning_text", "text": "Hm."}],
        encrypted_content=None,
        status=None,
    )
    assert isinstance(reasoning, ReasoningItem)
    part: Any = {"type": "output_text", "text": "x", "annotations": [], "logprobs": None, "parsed": {"a": 1}}
    message = item(type="message", id="msg_1", role="assistant", phase="final_answer", channel="final", content=[part])
    assert isinstance(message, MessageItem)


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": "item_reference"}])
def test_an_id_alone_is_a_reference(kind: dict[str, Any]) -> None:
    assert item(**kind, id="msg_1") == ItemReference(id="msg_1")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a"]}, "input[0]", "invalid_type"),
        ({"input": [{"type": 7}]}, "input[0].type", "invalid_type"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0]", "unsupported_parameter"),
        ({"input": [{"role": "usr", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", MISSING),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content", "invalid_type"),
        ({"input": [{"role": "user", "content": "x", "foo": 1}]}, "input[0].foo", "unknown_parameter"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
            "unsupported_parameter",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
            MISSING,
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]},
            "input[0].arguments",
            MISSING,
        ),
        (
            {"input": [{"type": "function_call_output", "output": "x"}]},
            "input[0].call_id",
            MISSING,
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", MISSING),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0]", "invalid_value"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools[1].name", "invalid_value"),
        (
            {"tools": [{**FUNCTION, "strict": True, "parameters": SCHEMA}]},
            "tools[0].parameters.properties.a.type",
            "invalid_schema",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "any"}, "tool_choice", "invalid_value"),
        ({"tool_choice": 5}, "tool_choice", "invalid_type"),
        ({"tool_choice": FUNCTION}, "tool_choice.name", "invalid_value"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice", "unsupported_parameter"),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{**FUNCTION, "name": "g"}]},
            },
            "tool_choice.tools[0].name",
            "invalid_value",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
            "text.format.schema.properties.a.type",
            "invalid_schema",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            MISSING,
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": {}}}, "text.format.type", MISSING),
        ({"text": {"format": 5}}, "text.format", "invalid_type"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
        ({"background": True, "store": False}, "store", "invalid_value"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation", "invalid_value"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"context_management": [{}]}, "context_management", "unsupported_parameter"),
        ({"include": ["foo"]}, "include[0]", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"max_output_tokens": 5, "min_answer_tokens": 6}, "min_answer_tokens", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"previous_response_id": ""}, "previous_response_id", "empty_string"),
        ({"foo": 1}, "foo", "unknown_parameter"),
    ],
)
def test_a_mistake_is_named_with_its_place(fields: dict[str, Any], param: str, code: str) -> None:
    error = refused(**fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "instead"),
    [
        ({"prompt": {"id": "p"}}, "instructions"),
        ({"tools": [{"type": "code_interpreter"}]}, "type 'function'"),
        ({"messages": []}, "'input'"),
        ({"max_tokens": 5}, "'max_output_tokens'"),
        ({"reasoning_effort": "low"}, "'reasoning.effort'"),
        ({"response_format": {"type": "text"}}, "'text.format'"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "flat"),
    ],
)
def test_a_refusal_says_what_to_do_instead(fields: dict[str, Any], instead: str) -> None:
    assert instead in refused(**fields).message


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 3}, 3),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, 2),
    ],
)
def test_log_probabilities_are_asked_for_by_either_field(fields: dict[str, Any], logprobs: int | None) -> None:
    assert parsed(**fields).logprobs == logprobs
