"""Schemas cut down to what answers can be held to, for calls that are forced without `strict`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from serving.schemas.check import SchemaProblem, schema_problem, subschemas
from serving.schemas.places import joined
from serving.schemas.type_names import ANY, json_type_name

_MOST_CUTS = 20


@dataclass(frozen=True, slots=True)
class HeldPart:
    """Part of a schema that answers can be held to, as JSON (None: nothing of it), and the places left out."""

    schema: str | None
    left_out: tuple[str, ...] = ()


def held_part(schema: dict[str, Any]) -> HeldPart:
    """The part of a schema that answers can be held to: without the keywords that are refused where all must hold."""
    return _held_part(json.dumps(schema))


@functools.lru_cache(maxsize=512)
def _held_part(text: str) -> HeldPart:
    schema: dict[str, Any] = json.loads(text)
    _name_types(schema)
    written = json.dumps(schema)
    left_out: list[str] = []
    for _ in range(_MOST_CUTS):
        problem = schema_problem(schema)
        if problem is None:
            return HeldPart(json.dumps(schema) if left_out else written, tuple(left_out))
        left_out.append(problem.at)
        if not _cut(schema, problem):
            break
    return HeldPart(None, tuple(left_out))


def _name_types(schema: dict[str, Any]) -> None:
    """Give the types JSON's names, as the model is shown them."""
    for _, part in subschemas(schema):
        named = part.get("type")
        if isinstance(named, str) and (name := json_type_name(named)) is not None:
            part["type"] = name
            if name == ANY:
                del part["type"]


def _cut(schema: dict[str, Any], problem: SchemaProblem) -> bool:
    """Take the keyword with a problem out of the schema; False where none is named."""
    found = [
        (len(path), part, keyword)
        for path, part in subschemas(schema)
        for keyword in part
        if f"{problem.at}.".startswith((f"{joined(path, keyword)}.", f"{joined(path, keyword)}["))
    ]
    if not found:
        return False
    _, part, keyword = max(found, key=lambda each: each[0])
    del part[keyword]
    return True
