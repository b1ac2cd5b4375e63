"""What xgrammar, which holds answers to their schema, cannot express.

Source: vllm/v1/structured_output/backend_xgrammar.py (has_xgrammar_unsupported_json_features) of vLLM 0.32, and what
xgrammar 0.2 was seen to pass over in silence. A keyword is refused whatever the schema's type, where vLLM looks at the
type first: without its type a schema would be let through and the keyword ignored.
"""

from __future__ import annotations

from typing import Any

_IGNORED = ("not", "if", "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef")
_NOT_ENFORCED = ("multipleOf", "uniqueItems", "contains", "minContains", "maxContains")
_FORMATS = frozenset(
    (
        *("email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference"),
        *("uri-template", "json-pointer", "relative-json-pointer"),
    )
)
_LENGTHS = ("minLength", "maxLength")


def unsupported_keyword(schema: dict[str, Any]) -> tuple[str, str] | None:
    """The first keyword of this one schema that answers cannot be held to, and why; None: all can be enforced.

    `schema` is valid by its meta-schema; those inside it are not looked at.
    """
    for keyword in (*_IGNORED, *_NOT_ENFORCED):
        if keyword in schema:
            return keyword, f"answers cannot be held to '{keyword}'; leave it out."
    if len(schema.get("allOf", ())) > 1:
        return "allOf", "answers cannot be held to several schemas at once; merge them into one."
    return _of_strings(schema) or _of_objects(schema)


def _of_strings(schema: dict[str, Any]) -> tuple[str, str] | None:
    types = schema.get("type", "string")
    form = schema.get("format")
    if form is not None and "string" in ([types] if isinstance(types, str) else types) and form not in _FORMATS:
        return "format", f"answers cannot be held to this format; use one of {', '.join(sorted(_FORMATS))}."
    if _shape_and_length(schema):
        return "pattern" if "pattern" in schema else "format", "it cannot go together with minLength or maxLength."
    return None


def _of_objects(schema: dict[str, Any]) -> tuple[str, str] | None:
    patterns = schema.get("patternProperties", {})
    if "propertyNames" in schema:
        names = schema["propertyNames"]
        if isinstance(names, dict) and _shape_and_length(names):
            return "propertyNames", "its pattern or format cannot go together with minLength or maxLength."
        for other in ("patternProperties", "properties"):
            if other in schema:
                return "propertyNames", f"it cannot go together with '{other}'."
        if schema.get("unevaluatedProperties", True) is not True:
            return "propertyNames", "it cannot go together with 'unevaluatedProperties'."
    if "patternProperties" in schema and "properties" in schema:
        return "patternProperties", "it cannot go together with 'properties'."
    if len(patterns) > 1:
        return "patternProperties", "answers can be held to one pattern of names, not to several."
    return None


def _shape_and_length(schema: dict[str, Any]) -> bool:
    return ("pattern" in schema or "format" in schema) and any(length in schema for length in _LENGTHS)
