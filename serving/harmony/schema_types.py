"""Types of a tool's schema in JSON's names: what cannot be read is an error that names its place, never any value."""

from __future__ import annotations

import copy
from typing import Any

from serving.errors import InvalidValueError
from serving.schemas.check import subschemas
from serving.schemas.type_names import ANY, JSON_TYPES, json_type_name

Schema = dict[str, Any]

_IN_OBJECTS = ("properties", "patternProperties")
_IN_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def with_json_types(schema: Schema, place: str) -> Schema:
    """`schema`, or a copy of it, with JSON's names for types that are written in another way.

    `type` is left out where it says nothing. Raises InvalidValueError for types that nobody knows, and for parts that
    are no schemas where schemas should be.
    """
    foreign = False
    for path, part in subschemas(schema):
        at = f"{place}.{path}" if path else place
        _check_parts(part, at)
        if "type" in part:
            foreign |= _json_types(part["type"], at) != part["type"]
    if not foreign:
        return schema
    schema = copy.deepcopy(schema)
    for path, part in subschemas(schema):
        if "type" in part:
            named = _json_types(part["type"], path)
            if named is None:
                del part["type"]
            else:
                part["type"] = named
    return schema


def _json_types(named: Any, at: str) -> Any:
    """The value of `type` in JSON's names; None for one that says nothing."""
    if isinstance(named, str):
        name = _json_type(named, at)
        return None if name == ANY else name
    if not isinstance(named, list):
        raise _no_type(named, at)
    # null itself stands in some lists.
    names = [_json_type("null" if each is None else each, at) for each in named]
    return None if ANY in names or not names else names


def _json_type(named: Any, at: str) -> str:
    name = json_type_name(named) if isinstance(named, str) else None
    if name is None:
        raise _no_type(named, at)
    return name


def _check_parts(part: Schema, at: str) -> None:
    for keyword in _IN_OBJECTS:
        listed = part.get(keyword, {})
        if not isinstance(listed, dict):
            raise _no_schema(f"{at}.{keyword}", "an object of schemas")
        for name, inner in listed.items():
            _check_schema(inner, f"{at}.{keyword}.{name:.64}")
    for keyword in _IN_LISTS:
        variants = part.get(keyword, [])
        if not isinstance(variants, list):
            raise _no_schema(f"{at}.{keyword}", "a list of schemas")
        for index, inner in enumerate(variants):
            _check_schema(inner, f"{at}.{keyword}[{index}]")
    items = part.get("items", {})
    for index, inner in enumerate(items if isinstance(items, list) else [items]):
        _check_schema(inner, f"{at}.items[{index}]" if isinstance(items, list) else f"{at}.items")


def _check_schema(value: Any, at: str) -> None:
    if not isinstance(value, dict | bool):
        raise _no_schema(at, "a schema")


def _no_schema(at: str, what: str) -> InvalidValueError:
    return InvalidValueError(f"{at:.200} is not {what}.", param=at)


def _no_type(named: Any, at: str) -> InvalidValueError:
    return InvalidValueError(
        f"{at:.200}.type: {named!r:.40} is no type; those are {', '.join(JSON_TYPES)}.", param=f"{at}.type"
    )
