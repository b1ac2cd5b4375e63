"""The table of keywords says what the code does, and the page what the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.schemas import formats
from serving.schemas.check import schema_problem
from serving.schemas.keywords import KEYWORDS, TOLD, table

PAGE = Path(__file__).parents[2] / "docs/structured-outputs.md"

EXAMPLES: dict[str, dict[str, Any]] = {
    "type": {"type": "string"},
    "enum": {"enum": [1, "a"]},
    "const": {"const": {"a": 1}},
    "$ref": {"$ref": "#/$defs/a", "maxLength": 3, "$defs": {"a": {"type": "string"}}},
    "allOf": {"allOf": [{"type": "string"}, {"maxLength": 3}]},
    "anyOf": {"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 3},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    "not": {"not": {"const": "a"}, "type": "string"},
    "if": {"if": {"type": "string"}, "then": {"maxLength": 3}, "else": {"type": "null"}},
    "then": {"if": {"type": "string"}, "then": {"maxLength": 3}},
    "else": {"if": {"type": "string"}, "else": {"type": "null"}},
    "dependentRequired": {"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"properties": {"a": {}, "b": {}}, "dependentSchemas": {"a": {"required": ["b"]}}},
    "dependencies": {"properties": {"a": {}, "b": {}}, "dependencies": {"a": ["b"]}},
    "properties": {"properties": {"a": {"type": "string"}}},
    "required": {"properties": {"a": {}}, "required": ["a", "b"]},
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "integer"}},
    "patternProperties": {"patternProperties": {"^a": {"type": "integer"}, "b$": {"minimum": 3}}},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 3}},
    "unevaluatedProperties": {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
    "minProperties": {"properties": {"a": {}, "b": {}}, "minProperties": 1},
    "maxProperties": {"type": "object", "maxProperties": 2},
    "items": {"items": {"type": "string"}},
    "prefixItems": {"prefixItems": [{"type": "string"}], "items": False},
    "additionalItems": {"items": [{"type": "string"}], "additionalItems": False},
    "unevaluatedItems": {"prefixItems": [{"type": "string"}], "unevaluatedItems": False},
    "minItems": {"type": "array", "minItems": 2},
    "maxItems": {"type": "array", "maxItems": 2},
    "uniqueItems": {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True},
    "contains": {"type": "array", "contains": {"const": 1}},
    "minContains": {"items": {"enum": [1, 2]}, "contains": {"const": 1}, "minContains": 2},
    "maxContains": {"type": "array", "contains": {"const": 1}, "maxContains": 2},
    "minLength": {"type": "string", "minLength": 2},
    "maxLength": {"type": "string", "maxLength": 2},
    "pattern": {"type": "string", "pattern": "^(?=.*[0-9])[a-z0-9]+$"},
    "format": {"type": "string", "format": "date"},
    "minimum": {"type": "integer", "minimum": 3},
    "maximum": {"type": "number", "maximum": 3},
    "exclusiveMinimum": {"type": "number", "exclusiveMinimum": 3},
    "exclusiveMaximum": {"type": "integer", "exclusiveMaximum": 3},
    "multipleOf": {"type": "integer", "multipleOf": 5},
    "$dynamicRef": {"$dynamicRef": "#a"},
    "$recursiveRef": {"$recursiveRef": "#"},
}


def test_every_keyword_that_is_more_than_told_has_an_example() -> None:
    assert set(EXAMPLES) == {keyword.name for keyword in KEYWORDS} - TOLD


@pytest.mark.parametrize(
    "keyword", [keyword for keyword in KEYWORDS if keyword.support != "told"], ids=lambda k: k.name
)
def test_the_table_says_whether_a_keyword_is_refused(keyword: Any) -> None:
    problem = schema_problem(EXAMPLES[keyword.name])
    assert (problem is not None) == (keyword.support == "refused")
    if problem is not None:
        assert (problem.at, problem.code) == (keyword.name, "unsupported_schema")


def test_the_page_has_the_table_and_the_formats() -> None:
    page = PAGE.read_text()
    assert table() in page, f"docs/structured-outputs.md needs this table:\n\n{table()}"
    assert f"Formats: {', '.join(f'`{name}`' for name in formats.HELD)}." in page
