"""JSON schemas that requests bring, checked before an engine sees them: each mistake is named with its place.

A schema is checked against its draft's meta-schema by jsonschema and then made a grammar (compiler.py), which says what
answers cannot be held to.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
    ValidationError,
)

from serving.schemas.compiler import compiled
from serving.schemas.json_type import json_type
from serving.schemas.places import joined
from serving.schemas.problems import InvalidError, UnsupportedError
from serving.schemas.validating import validator_in

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
_IN_OBJECTS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_DIRECT = (
    *("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
    *("contains", "propertyNames", "not", "if", "then", "else"),
)


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """Mistake and its place: `at` is the path below the schema in OpenAI's notation, "properties.age.type"."""

    at: str
    message: str
    code: Literal["invalid_schema", "unsupported_schema"] = "invalid_schema"


def schema_problem(schema: dict[str, Any]) -> SchemaProblem | None:
    """The first problem of `schema`, or None. Results are remembered: clients send the same few schemas again."""
    read = _read(json.dumps(schema))
    return read if isinstance(read, SchemaProblem) else None


def schema_grammar(text: str) -> str:
    """The grammar, in xgrammar's EBNF, of the answers that are valid by a schema, which is given as JSON.

    The schema has no schema_problem(): raises ValueError for one that has.
    """
    read = _read(text)
    if isinstance(read, SchemaProblem):
        raise ValueError(f"{read.at}: {read.message}")
    return read


def validator_of(schema: dict[str, Any]) -> Any:
    """jsonschema's validator of a schema, by its draft; it reads no reference from the network."""
    draft = draft_of(schema)
    return validator_in(draft, schema, format_checker=draft.FORMAT_CHECKER)


def is_valid_answer(schema: str, answer: str) -> bool:
    """Whether a text is JSON that is valid by a schema, which is given as JSON."""
    try:
        return bool(_validator(schema).is_valid(json.loads(answer)))
    except (ValueError, RecursionError):
        return False


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    return validator_of(json.loads(schema))


@functools.lru_cache(maxsize=512)
def _read(text: str) -> SchemaProblem | str:
    """The grammar of a schema, or what is wrong with it."""
    if len(text) > MAX_SCHEMA_CHARACTERS:
        return SchemaProblem("", f"it has {len(text)} characters; at most {MAX_SCHEMA_CHARACTERS} are taken.")
    schema = json.loads(text)
    if _deeper_than(schema, MAX_SCHEMA_DEPTH):
        return SchemaProblem("", f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels.")
    parts = list(subschemas(schema))
    if len(parts) > MAX_SUBSCHEMAS:
        return SchemaProblem("", f"it has {len(parts)} schemas in it; at most {MAX_SUBSCHEMAS} are taken.")
    draft = draft_of(schema)
    problem = _meta_problem(schema, draft)
    if problem is not None:
        return problem
    try:
        return compiled(validator_in(draft, schema), {id(part): path for path, part in parts})
    except RecursionError:
        return SchemaProblem("", "it is too complex to hold answers to.", "unsupported_schema")
    except InvalidError as error:
        return SchemaProblem(error.at, error.why)
    except UnsupportedError as error:
        return SchemaProblem(error.at, error.why, "unsupported_schema")


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`schema` and every schema inside it, with its path below `schema`; parts of a wrong type are left out."""
    pending: list[tuple[str, Any]] = [("", schema)]
    while pending:
        path, part = pending.pop()
        if not isinstance(part, dict):
            continue
        yield path, part
        pending += [(joined(path, keyword), part.get(keyword)) for keyword in _DIRECT]
        for keyword in _IN_LISTS:
            if isinstance(listed := part.get(keyword), list):
                pending += [(joined(joined(path, keyword), i), item) for i, item in enumerate(listed)]
        for keyword in _IN_OBJECTS:
            if isinstance(named := part.get(keyword), dict):
                pending += [(joined(joined(path, keyword), name), item) for name, item in named.items()]


def draft_of(schema: dict[str, Any]) -> Any:
    """The draft that a schema names; else 2020-12 or, where that does not know the schema's tuples, Draft 7."""
    named = schema.get("$schema")
    if isinstance(named, str) and named.rstrip("#") in _DRAFTS:
        return _DRAFTS[named.rstrip("#")]
    has_tuples = any(isinstance(part.get("items"), list) for _, part in subschemas(schema))
    return Draft7Validator if has_tuples else Draft202012Validator


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inner)


def _meta_problem(schema: dict[str, Any], draft: Any) -> SchemaProblem | None:
    error: ValidationError | None = next(draft(draft.META_SCHEMA).iter_errors(schema), None)
    if error is None:
        return None
    path = ""
    for key in error.absolute_path:
        path = joined(path, key)
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
