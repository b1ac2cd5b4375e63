from __future__ import annotations

import json
from typing import Any

import pytest

from serving.api.openai.chat.request import parse_chat_request
from serving.api.wire.structured_outputs import AskedFor
from serving.errors import ApiError, InvalidValueError, UnsupportedParameterError

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
BAD = {"type": "object", "properties": {"age": {"type": "integr"}}}


def answer_format(**fields: Any) -> AskedFor | None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], **fields}
    return parse_chat_request(json.dumps(body).encode()).answer_format


def json_schema(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, **fields}}


def refused(param: str, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        answer_format(**fields)
    assert caught.value.status == 400
    assert caught.value.param == param
    assert len(caught.value.message) < 400
    return caught.value


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (None, {"response_format": {"type": "text"}}),
        (("response_format", "json_object", ""), {"response_format": {"type": "json_object"}}),
        (
            ("response_format.json_schema.schema", "json_schema", json.dumps(SCHEMA)),
            {"response_format": json_schema(SCHEMA, strict=True, description="A person")},
        ),
        (("structured_outputs.json", "json_schema", json.dumps(SCHEMA)), {"structured_outputs": {"json": SCHEMA}}),
        (
            ("structured_outputs.json", "json_schema", json.dumps(SCHEMA)),
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
        ),
        (("structured_outputs.regex", "regex", r"\d+"), {"structured_outputs": {"regex": r"\d+"}}),
        (("structured_outputs.choice", "choice", '["a", "b"]'), {"structured_outputs": {"choice": ["a", "b"]}}),
        (("structured_outputs.grammar", "grammar", "root ::= x"), {"structured_outputs": {"grammar": "root ::= x"}}),
        (("structured_outputs.json_object", "json_object", ""), {"structured_outputs": {"json_object": True}}),
        (("guided_json", "json_schema", json.dumps(SCHEMA)), {"guided_json": SCHEMA}),
        (("guided_regex", "regex", "a|b"), {"guided_regex": "a|b"}),
        (("guided_choice", "choice", '["a"]'), {"guided_choice": ["a"]}),
        (("guided_grammar", "grammar", "root ::= x"), {"guided_grammar": "root ::= x"}),
    ],
)
def test_every_way_of_asking_names_its_field(asked: Any, fields: dict[str, Any]) -> None:
    assert answer_format(**fields) == (asked and AskedFor(*asked))


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("response_format.json_schema.schema", {"response_format": json_schema(BAD)}),
        ("structured_outputs.json", {"structured_outputs": {"json": BAD}}),
        ("guided_json", {"guided_json": json.dumps(BAD)}),
        (
            "tools[0].function.parameters",
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": BAD}}]},
        ),
    ],
)
def test_a_wrong_schema_is_named_with_its_place(place: str, fields: dict[str, Any]) -> None:
    error = refused(f"{place}.properties.age.type", **fields)
    assert error.code == "invalid_schema"
    assert f"{place}.properties.age.type: 'integr' is no type" in error.message


def test_a_schema_that_answers_cannot_be_held_to_is_told_from_a_wrong_one() -> None:
    error = refused("guided_json.multipleOf", guided_json={"type": "number", "multipleOf": 0.01})
    assert error.code == "unsupported_schema"


def test_a_tool_that_is_not_strict_may_have_any_schema() -> None:
    answer_format(tools=[{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}])


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("response_format.type", {"response_format": {"type": "yaml"}}),
        ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
        ("response_format.json_schema", {"response_format": {**json_schema({}), "type": "json_object"}}),
        ("response_format.json_schema.schema", {"response_format": json_schema([])}),
        (
            "response_format.json_schema.name",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        ),
        ("response_format.json_schema.name", {"response_format": json_schema({}, name="two words")}),
        ("structured_outputs", {"structured_outputs": {}}),
        ("structured_outputs", {"structured_outputs": {"regex": "a", "choice": ["a"]}}),
        ("structured_outputs.regex", {"structured_outputs": {"regex": ""}}),
        ("structured_outputs.regex", {"structured_outputs": {"regex": "a\0"}}),
        ("structured_outputs.choice", {"structured_outputs": {"choice": []}}),
        ("structured_outputs.choice[1]", {"structured_outputs": {"choice": ["a", ""]}}),
        ("structured_outputs.json", {"structured_outputs": {"json": "{"}}),
        ("structured_outputs.json", {"structured_outputs": {"json": "[]"}}),
        ("guided_grammar", {"guided_grammar": "  \n"}),
        ("guided_grammar", {"guided_grammar": "x" * 70_000}),
        ("guided_regex", {"guided_regex": "x" * 10_000}),
        ("structured_outputs", {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}),
        ("guided_regex", {"guided_json": SCHEMA, "guided_regex": "a"}),
    ],
)
def test_mistakes_are_named(param: str, fields: dict[str, Any]) -> None:
    assert isinstance(refused(param, **fields), InvalidValueError)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("structured_outputs.structural_tag", {"structural_tag": "x"}),
        ("structured_outputs.json_object", {"json_object": False}),
        ("structured_outputs.schema", {"schema": {}}),
    ],
)
def test_what_is_not_supported_is_refused_by_name(param: str, fields: dict[str, Any]) -> None:
    assert isinstance(refused(param, structured_outputs=fields), UnsupportedParameterError)


def test_the_python_name_of_a_field_is_not_its_name() -> None:
    error = refused("response_format.json_schema.schema_", response_format=json_schema({}, schema_={}))
    assert error.code == "unknown_parameter"
