"""A request body becomes a JSON object, or a 400 that says where it is broken."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from serving.errors import MalformedBodyError


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (UTF-8, RFC 8259: no NaN, no lone surrogates, at most 200 levels deep).

    Of duplicate keys the last one wins. Raises MalformedBodyError for anything else.
    """
    if not body.strip():
        raise MalformedBodyError("The request has no body. Send a JSON object.")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBodyError(f"The request body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise MalformedBodyError(f"The request body must be a JSON object, not {json_type(value)}.")
    return value


def json_type(value: object) -> str:
    """JSON's name for a value's type, with its article: "an integer", "null"."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return "an unknown type"
