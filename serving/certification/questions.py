"""Questions, tools and schemas of the checks, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.certification.conversation import Ask, Tool

HELLO = Ask("Say hello.")
SKY = Ask("Why is the sky blue?")
COUNT = "Count from 1 to 200, in words."

_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "The weather of a city", _CITY, {"city": "Paris"})
TIME = Tool("get_time", "The local time of a city", _CITY, {"city": "Oslo"})
WEATHER_RESULT = "sunny, 20 degrees"


@dataclass(frozen=True, slots=True)
class ToolCase:
    """Question that a model answers by calling `tool`, most likely with its example as arguments."""

    question: str
    tool: Tool


TOOL_CASES = (
    ToolCase("What is the weather in Paris?", WEATHER),
    ToolCase("What time is it in Oslo?", TIME),
)
"""Left to the model, as OpenAI's compatibility test of gpt-oss does: a call is wanted, its arguments are not judged."""


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_WORD = {"type": "string", "maxLength": 12}
FORCED_TOOLS = (
    Tool("no_arguments", "Takes nothing", _object(), {}),
    Tool("set_mode", "An enumeration", _object(mode={"type": "string", "enum": ["on", "off"]}), {"mode": "on"}),
    Tool(
        "query_database",
        "Nested objects and arrays",
        _object(
            table={"type": "string", "enum": ["users", "orders"]},
            limit={"type": "integer", "minimum": 1, "maximum": 9},
            columns={"type": "array", "items": {"type": "string", "enum": ["id", "name"]}, "maxItems": 2},
            where=_object(field={"type": "string", "enum": ["id"]}, equals={"type": "boolean"}),
        ),
        {"table": "users", "limit": 5, "columns": ["id"], "where": {"field": "id", "equals": True}},
    ),
    Tool(
        "web-search",
        "A name with a dash, and a value that may be null",
        _object(page={"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
        {"page": 3},
    ),
)
"""Forced one by one; every model can do that where the server holds arguments to the schema."""


@dataclass(frozen=True, slots=True)
class SchemaCase:
    """Schema of an answer; `example` is valid by it."""

    name: str
    schema: Mapping[str, Any]
    example: Any

    @property
    def ask(self) -> Ask:
        """The request."""
        return Ask(f"Answer in JSON, as the schema {self.name!r} says.", schema=self.schema, max_tokens=512)


SCHEMA_CASES = (
    SchemaCase(
        "flat object",
        _object(name=_WORD, age={"type": "integer", "minimum": 0, "maximum": 150}),
        {"name": "Ada", "age": 36},
    ),
    SchemaCase("enumeration", _object(mood={"enum": ["good", "bad"]}), {"mood": "good"}),
    SchemaCase("constant", _object(kind={"const": "answer"}), {"kind": "answer"}),
    SchemaCase(
        "array",
        _object(tags={"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3}),
        {"tags": ["a"]},
    ),
    SchemaCase(
        "nested",
        _object(point=_object(x={"type": "integer", "minimum": 0, "maximum": 9}, y={"type": "boolean"})),
        {"point": {"x": 1, "y": True}},
    ),
    SchemaCase("nullable", _object(note={"anyOf": [{"enum": ["n"]}, {"type": "null"}]}), {"note": None}),
    SchemaCase(
        "definitions",
        {**_object(first={"$ref": "#/$defs/digit"}), "$defs": {"digit": {"type": "string", "pattern": "^[0-9]$"}}},
        {"first": "7"},
    ),
    SchemaCase(
        "recursive",
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": _object(leaf={"type": "boolean"}, child={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
            },
        },
        {"leaf": True, "child": None},
    ),
    SchemaCase("pattern", _object(code={"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"}), {"code": "AB12"}),
    SchemaCase("lookahead", _object(a={"type": "string", "pattern": "^(?=.*[0-9])[a-z0-9]{1,8}$"}), {"a": "a1"}),
    SchemaCase(
        "properties beside anyOf",
        {
            "type": "object",
            "properties": {"k": {"enum": ["k"]}},
            "required": ["k"],
            "anyOf": [
                {"properties": {"x": {"type": "boolean"}}, "required": ["x"]},
                {"properties": {"y": {"type": "boolean"}}, "required": ["y"]},
            ],
        },
        {"k": "k", "x": True},
    ),
    SchemaCase(
        "anyOf of required",
        {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            "additionalProperties": False,
        },
        {"a": True},
    ),
    SchemaCase("pattern without a type", _object(a={"pattern": "^[0-9]{3}$"}), {"a": "123"}),
    SchemaCase(
        "pattern beside $ref",
        {**_object(a={"$ref": "#/$defs/x", "pattern": "^[0-9]{3}$"}), "$defs": {"x": {"type": "string"}}},
        {"a": "123"},
    ),
    SchemaCase("format", _object(day={"type": "string", "format": "date"}), {"day": "2026-11-27"}),
)
"""Common schemas, and those that constrained decoding drops in silence in many servers."""
