"""JSON's names for types of values."""

from __future__ import annotations


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
