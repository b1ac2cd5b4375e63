"""JSON schemas that requests bring, checked before an engine sees them: each mistake is named with its place.

A schema is checked against its draft's meta-schema by jsonschema, its references are resolved, and what the engine's
grammar compiler cannot hold a text to is refused (json_schema_support.py). Regular expressions in it are left to the
engine, whose dialect decides.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import unquote

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
    ValidationError,
)

from serving.schemas.json_type import json_type
from serving.schemas.support import unsupported_keyword

MAX_SCHEMA_CHARACTERS = 128 * 1024
MAX_SCHEMA_DEPTH = 48
"""Levels of nesting in the JSON, so that the checks' recursion stays far from Python's limit."""
MAX_SUBSCHEMAS = 2000
"""About 0.4 s of checking, once a schema."""
_LONGEST_MESSAGE = 160
_TYPES = "array, boolean, integer, null, number, object, string"

_DRAFTS: dict[str, Any] = {
    validator.META_SCHEMA["$schema"].rstrip("#"): validator
    for validator in (Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator)
}
_IN_OBJECTS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_DIRECT = (
    *("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
    *("contains", "propertyNames", "not", "if", "then", "else"),
)
_SAME_INSTANCE = ("allOf", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """Mistake and its place: `at` is the path below the schema in OpenAI's notation, "properties.age.type"."""

    at: str
    message: str
    code: Literal["invalid_schema", "unsupported_schema"] = "invalid_schema"


def schema_problem(schema: dict[str, Any]) -> SchemaProblem | None:
    """The first problem of `schema`, or None. Results are remembered: clients send the same few schemas again."""
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_CHARACTERS:
        return SchemaProblem("", f"it has {len(text)} characters; at most {MAX_SCHEMA_CHARACTERS} are taken.")
    return _remembered_problem(text)


@functools.lru_cache(maxsize=512)
def _remembered_problem(text: str) -> SchemaProblem | None:
    schema = json.loads(text)
    if _deeper_than(schema, MAX_SCHEMA_DEPTH):
        return SchemaProblem("", f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels.")
    parts = list(subschemas(schema))
    if len(parts) > MAX_SUBSCHEMAS:
        return SchemaProblem("", f"it has {len(parts)} schemas in it; at most {MAX_SUBSCHEMAS} are taken.")
    return _meta_problem(schema) or _reference_problem(schema, parts) or _unsupported(parts)


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`schema` and every schema inside it, with its path below `schema`; parts of a wrong type are left out."""
    pending: list[tuple[str, Any]] = [("", schema)]
    while pending:
        path, part = pending.pop()
        if not isinstance(part, dict):
            continue
        yield path, part
        pending += [(_joined(path, keyword), part.get(keyword)) for keyword in _DIRECT]
        for keyword in _IN_LISTS:
            if isinstance(listed := part.get(keyword), list):
                pending += [(f"{_joined(path, keyword)}[{i}]", item) for i, item in enumerate(listed)]
        for keyword in _IN_OBJECTS:
            if isinstance(named := part.get(keyword), dict):
                pending += [(_joined(_joined(path, keyword), name), item) for name, item in named.items()]


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inner)


def _meta_problem(schema: dict[str, Any]) -> SchemaProblem | None:
    named = schema.get("$schema")
    draft = _DRAFTS.get(named.rstrip("#"), Draft202012Validator) if isinstance(named, str) else Draft202012Validator
    error: ValidationError | None = next(draft(draft.META_SCHEMA).iter_errors(schema), None)
    if error is None:
        return None
    path = ""
    for key in error.absolute_path:
        path = f"{path}[{key}]" if isinstance(key, int) else _joined(path, key)
    return SchemaProblem(path, _meta_message(error))


def _meta_message(error: ValidationError) -> str:
    path = list(error.absolute_path)
    if path and path[-1] == "type" and isinstance(error.instance, str):
        return f"'{error.instance[:40]}' is no type of JSON; those are {_TYPES}."
    if error.validator == "type":
        wanted = error.validator_value
        expected = " or ".join([wanted] if isinstance(wanted, str) else cast("list[str]", wanted))
        return f"expected {expected}, but got {json_type(error.instance)}."
    if len(error.message) <= _LONGEST_MESSAGE:
        return f"{error.message}."
    return f"it breaks the meta-schema's rule '{error.validator}'."


def _reference_problem(schema: dict[str, Any], parts: list[tuple[str, dict[str, Any]]]) -> SchemaProblem | None:
    checked = {id(part) for _, part in parts}
    for path, part in parts:
        reference = part.get("$ref")
        if not isinstance(reference, str):
            continue
        at = _joined(path, "$ref")
        if reference != "#" and not reference.startswith("#/"):
            return SchemaProblem(at, "only references within the schema are followed, as '#/$defs/name'.")
        target = _target(schema, reference)
        if not isinstance(target, bool) and id(target) not in checked:
            return SchemaProblem(at, f"'{reference[:80]}' leads to no schema; put it under $defs.")
    return _cycle(schema, parts)


def _cycle(schema: dict[str, Any], parts: list[tuple[str, dict[str, Any]]]) -> SchemaProblem | None:
    """A schema that is defined by itself, with no value in between: no text is ever settled by it."""
    finished: set[int] = set()
    for path, start in parts:
        open_now: set[int] = set()
        pending = [(start, False)]
        while pending:
            part, leaving = pending.pop()
            if leaving:
                open_now.discard(id(part))
                finished.add(id(part))
            elif id(part) in open_now:
                return SchemaProblem(path, "it refers to itself with nothing in between.")
            elif id(part) not in finished:
                open_now.add(id(part))
                pending.append((part, True))
                pending += [(other, False) for other in _same_instance(schema, part)]
    return None


def _same_instance(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that speak of the same value as `part`."""
    reference = part.get("$ref")
    others = [_target(schema, reference)] if isinstance(reference, str) else []
    for keyword in _SAME_INSTANCE:
        others += part.get(keyword, [])
    return (other for other in others if isinstance(other, dict))


def _target(schema: dict[str, Any], reference: str) -> Any:
    """Value that a JSON pointer (RFC 6901) in a fragment leads to; None for nowhere."""
    node: Any = schema
    for key in reference[2:].split("/") if reference != "#" else ():
        name = unquote(key).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and name.isascii() and len(name) < 10:
            node = node[int(name)] if int(name) < len(node) else None
        else:
            return None
    return node


def _unsupported(parts: list[tuple[str, dict[str, Any]]]) -> SchemaProblem | None:
    for path, part in parts:
        found = unsupported_keyword(part)
        if found is not None:
            keyword, why = found
            return SchemaProblem(_joined(path, keyword), why, "unsupported_schema")
    return None


def _joined(path: str, name: str) -> str:
    name = name[:64]
    return f"{path}.{name}" if path else name
