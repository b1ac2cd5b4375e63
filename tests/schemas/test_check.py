from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from serving.schemas.check import MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_DEPTH, MAX_SUBSCHEMAS, schema_problem, subschemas


class Address(BaseModel):
    street: str
    zip: str = Field(pattern=r"^\d{5}$")


class Person(BaseModel):
    """A model as clients write them."""

    name: str = Field(min_length=1, description="Full name")
    age: int | None = Field(None, ge=0, lt=150)
    home: Address
    friends: list[Person] = []
    kind: dict[str, float] = {}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": ["string", "null"], "minLength": 3},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"$schema": "https://example.org/own", "type": "object"},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"$defs": {"a/b": True}, "items": {"$ref": "#/$defs/a~1b"}},
        {"type": "object", "properties": {"$ref": {"type": "string"}, "not": {"type": "integer", "format": "int32"}}},
        {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "null"}}},
        {"items": {"$ref": "#/prefixItems/0"}, "prefixItems": [{"type": "string"}]},
        Person.model_json_schema(),
    ],
)
def test_right_schemas_have_no_problem(schema: dict[str, Any]) -> None:
    assert schema_problem(schema) is None


@pytest.mark.parametrize(
    ("at", "word", "schema"),
    [
        ("type", "array, boolean", {"type": "objekt"}),
        ("properties.age.type", "'integr'", {"type": "object", "properties": {"age": {"type": "integr"}}}),
        ("properties", "expected object, but got an array", {"properties": [1]}),
        ("properties.a", "object or boolean", {"properties": {"a": 5}}),
        ("anyOf[1].minLength", "-1", {"anyOf": [{}, {"minLength": -1}]}),
        ("required", "expected array", {"required": "a"}),
        ("enum", "expected array", {"enum": "x" * 1000}),
        ("$schema", "expected string", {"$schema": ["odd"]}),
        ("$ref", "within this one", {"$ref": "https://example.org/schema"}),
        ("$ref", "within this one", {"$ref": "#anchor"}),
        ("items.$ref", "'#/$defs/none' leads to no schema", {"items": {"$ref": "#/$defs/none"}}),
        ("$ref", "leads to no schema", {"$ref": "#/title/0", "title": "x"}),
        ("$ref", "leads to no schema", {"$ref": "#/anyOf/99999999999999999999", "anyOf": [{}]}),
        ("", "refers to itself", {"$ref": "#"}),
        ("", "refers to itself", {"allOf": [{"$ref": "#"}]}),
        (
            "$defs.b",
            "refers to itself",
            {"$ref": "#/$defs/b", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(at: str, word: str, schema: dict[str, Any]) -> None:
    problem = schema_problem(schema)
    assert problem is not None
    assert problem.code == "invalid_schema"
    assert problem.at == at
    assert word in problem.message
    assert len(problem.message) < 250


@pytest.mark.parametrize(
    ("at", "schema"),
    [
        ("properties.n.multipleOf", {"properties": {"n": {"type": "number", "multipleOf": 0.01}}}),
        ("multipleOf", {"type": "integer", "multipleOf": 1000}),
        ("not", {"not": {"type": "array", "items": {"type": "string"}}}),
        ("if", {"if": {"type": "integer"}, "else": {"type": "string"}}),
        ("uniqueItems", {"type": "array", "uniqueItems": True}),
        ("contains", {"type": "array", "contains": {"const": 1}, "maxItems": 9}),
        ("maxContains", {"type": "array", "contains": {"const": 1}, "maxContains": 1}),
        ("items.format", {"items": {"type": "string", "format": "phone"}}),
        ("pattern", {"type": "string", "pattern": "(?<=a)b"}),
        ("pattern", {"type": "string", "pattern": r"\bword\b"}),
        ("anyOf[1].pattern", {"anyOf": [{"type": "null"}, {"type": "string", "pattern": r"(a)\1"}]}),
        ("pattern", {"type": "string", "pattern": "^(a|bc)*$", "maxLength": 3000}),
        ("patternProperties.d", {"patternProperties": {name: {"type": "null"} for name in "abcd"}}),
        ("oneOf", {"oneOf": [{"type": "number"}, {"type": "integer"}]}),
        ("oneOf", {"oneOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}]}),
        ("$dynamicRef", {"$dynamicRef": "#x"}),
    ],
)
def test_what_answers_cannot_be_held_to_is_refused_by_its_keyword(at: str, schema: dict[str, Any]) -> None:
    problem = schema_problem(schema)
    assert problem is not None
    assert (problem.at, problem.code) == (at, "unsupported_schema")


def nested(kind: str, levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    wrap: Callable[[dict[str, Any]], dict[str, Any]] = {
        "items": lambda inner: {"items": inner},
        "anyOf": lambda inner: {"anyOf": [inner]},
        "properties": lambda inner: {"properties": {"a": inner}},
        "patternProperties": lambda inner: {"patternProperties": {"a": inner}},
    }[kind]
    for _ in range(levels):
        schema = wrap(schema)
    return schema


def test_size_and_depth_have_limits() -> None:
    for schema, word in (
        (nested("items", MAX_SCHEMA_DEPTH + 1), "deeper"),
        ({"description": "x" * MAX_SCHEMA_CHARACTERS}, "characters"),
        ({"properties": {str(number): {} for number in range(MAX_SUBSCHEMAS)}}, "schemas in it"),
    ):
        problem = schema_problem(schema)
        assert problem is not None
        assert word in problem.message


@pytest.mark.parametrize(("kind", "levels"), [("items", 1), ("anyOf", 2), ("properties", 2), ("patternProperties", 2)])
def test_the_deepest_schema_is_checked_with_room_to_spare(kind: str, levels: int) -> None:
    # In a thread of its own, whose stack is shallow: so that only the schema's depth counts.
    schema = nested(kind, MAX_SCHEMA_DEPTH // levels - 1)
    found: list[Any] = []
    limit = sys.getrecursionlimit()
    thread = threading.Thread(target=lambda: found.append(schema_problem(schema)))
    sys.setrecursionlimit(limit - 250)
    try:
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
    assert found == [None]


def test_a_long_chain_of_references_is_followed() -> None:
    chain = {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(1500)}
    assert schema_problem({"$ref": "#/$defs/0", "$defs": {**chain, "1500": {"type": "string"}}}) is None
    problem = schema_problem({"$ref": "#/$defs/0", "$defs": {**chain, "1500": {"$ref": "#/$defs/7"}}})
    assert problem is not None
    assert "refers to itself" in problem.message


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["object", "#", "#/items"])
keywords = st.sampled_from(
    [
        *("type", "properties", "items", "anyOf", "allOf", "$ref", "$defs", "required", "enum", "pattern", "format"),
        *("not", "patternProperties", "propertyNames", "prefixItems", "$schema", "$id", "minLength"),
    ]
)
soup = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.property
@given(st.dictionaries(keywords, soup, max_size=5))
def test_any_object_is_judged(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    problem = schema_problem(schema)
    assert problem is None or problem.message
    assert json.dumps(schema) == before
    assert all(isinstance(part, dict) for _, part in subschemas(schema))
