"""Names of types as programs write them into schemas: JSON's own, in capitals, and those of programming languages."""

from __future__ import annotations

JSON_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")

_NAMES: dict[str, str] = {
    **{name: name for name in JSON_TYPES},
    **dict.fromkeys(("str", "text", "char"), "string"),
    **dict.fromkeys(("int", "long", "int32", "int64", "bigint"), "integer"),
    **dict.fromkeys(("float", "double", "decimal", "num", "real"), "number"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "map", "mapping", "struct", "record"), "object"),
    **dict.fromkeys(("none", "nonetype", "nil"), "null"),
}
ANY = "any"
"""Words that some programs write for a value of any type."""


def json_type_name(name: str) -> str | None:
    """JSON's name of a type, "any" for one that says nothing, None for one that nobody knows."""
    lowered = name.strip().lower()
    return ANY if lowered in ("", ANY, "type_unspecified") else _NAMES.get(lowered)
