"""Validation of bodies: pydantic's errors become OpenAI's, one a body, with its parameter and what would be right."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serving.api.wire.base_model import WireModel
from serving.api.wire.reading import Reading
from serving.errors import ApiError, InvalidValueError, UnsupportedParameterError
from serving.schemas.json_type import json_type

_Model = TypeVar("_Model", bound=WireModel)

# What a client may read back of what it sent, in characters.
_LONGEST_ECHO = 64

_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def validate(model: type[_Model], data: dict[str, Any], reading: Reading | None = None) -> _Model:
    """Validate `data` as a `model`. Raises InvalidValueError or UnsupportedParameterError for its first mistake.

    `reading` notes what is ignored; without one, and with a strict one, unknown fields are mistakes.
    """
    if reading is not None and "tools" in data:
        data = model.with_tools_told(data, reading)
    try:
        return model.model_validate(data, context=reading)
    except ValidationError as error:
        mistake = explain(error.errors(include_url=False)[0])
        if reading is not None and mistake.param is not None:
            place = reading.place(mistake.param)
            mistake.message, mistake.param = mistake.message.replace(mistake.param, place), place
        raise mistake from error


def explain(error: ErrorDetails) -> ApiError:
    """Translate one of pydantic's errors to the API's, `param` in OpenAI's notation: "messages[0].content"."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    path = _path(error["loc"])
    match kind:
        case "unknown_parameter":
            name = _join(path, _clip(context["key"]))
            return UnsupportedParameterError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        case "none_required" | "unsupported_value":
            because = context.get("because", "This server does not support it.")
            at = _below(path, context.get("at", ""))
            return UnsupportedParameterError(f"Unsupported parameter: '{at}'. {because}", param=at)
        case "invalid":
            at = _below(path, context["at"])
            return InvalidValueError(context["message"], param=at or None, code=context["code"])
        case "invalid_schema":
            at = _join(path, context["at"])
            return InvalidValueError(f"Invalid schema: {at}: {context['message']}", param=at, code=context["code"])
        case "missing":
            return InvalidValueError(
                f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
            )
        case "expected":
            return _wrong_type(path, error["msg"], given)
        case "union_tag_not_found":
            return _untagged(path, given)
        case "union_tag_invalid":
            return _unknown_tag(path, given, context["expected_tags"])
        case "literal_error":
            return InvalidValueError(
                f"Invalid value for '{path}': {_shown(given)}. Supported values are: {context['expected']}.",
                param=path,
            )
        case _ if kind in _EXPECTED:
            return _wrong_type(path, _EXPECTED[kind], given)
        case _:
            return _out_of_range(path, error)


def _wrong_type(path: str, expected: str, given: object) -> InvalidValueError:
    return InvalidValueError(
        f"Invalid type for '{path}': expected {expected}, but got {json_type(given)} instead.",
        param=path,
        code="invalid_type",
    )


def _untagged(path: str, given: object) -> InvalidValueError:
    if not isinstance(given, dict):
        return _wrong_type(path, "an object", given)
    if "role" in given:
        return _wrong_type(f"{path}.role", "a string", given["role"])
    return InvalidValueError(
        f"Missing required parameter: '{path}.role'.", param=f"{path}.role", code="missing_required_parameter"
    )


def _unknown_tag(path: str, given: object, tags: str) -> InvalidValueError:
    role = given.get("role") if isinstance(given, dict) else given
    supported = tags.replace("<system>", "system', 'developer").replace("<", "").replace(">", "")
    return InvalidValueError(
        f"Invalid value for '{path}.role': {_shown(role)}. Supported values are: {supported}.", param=f"{path}.role"
    )


def _out_of_range(path: str, error: ErrorDetails) -> InvalidValueError:
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return _bound(path, f"at least {_number(context['ge'])}", given, "below_min_value")
        case "greater_than":
            return _bound(path, f"more than {_number(context['gt'])}", given, "below_min_value")
        case "less_than_equal":
            return _bound(path, f"at most {_number(context['le'])}", given, "above_max_value")
        case "finite_number":
            return _bound(path, "a finite number", given, "above_max_value")
        case "too_short" if context["actual_length"] == 0:
            return InvalidValueError(f"Invalid '{path}': the array is empty.", param=path, code="empty_array")
        case "too_long":
            actual, most = context["actual_length"], context["max_length"]
            return InvalidValueError(
                f"Invalid '{path}': {actual} items, where at most {most} are allowed.",
                param=path,
                code="array_above_max_length",
            )
        case "string_too_short":
            return InvalidValueError(f"Invalid '{path}': the string is empty.", param=path, code="empty_string")
        case "string_too_long":
            return InvalidValueError(
                f"Invalid '{path}': longer than {context['max_length']} characters.",
                param=path,
                code="string_above_max_length",
            )
        case "string_pattern_mismatch":
            return InvalidValueError(
                f"Invalid '{path}': {_shown(given)} does not match the pattern {context['pattern']}.", param=path
            )
        case _:
            return InvalidValueError(f"Invalid value for '{path}': {error['msg']}.", param=path)


def _bound(path: str, expected: str, given: object, code: str) -> InvalidValueError:
    kind = "integer" if isinstance(given, int) else "decimal"
    return InvalidValueError(
        f"Invalid '{path}': expected {expected}, but got {_shown(given)}.", param=path, code=f"{kind}_{code}"
    )


def _path(loc: tuple[int | str, ...]) -> str:
    """OpenAI's notation for pydantic's `loc`; union tags, which we write in angle brackets, are no part of it."""
    path = ""
    for item in loc:
        if isinstance(item, int):
            path += f"[{item}]"
        elif not (item.startswith("<") and item.endswith(">")):
            path = _join(path, _clip(item))
    return path


def _below(path: str, at: str) -> str:
    """Path of what stands at `at`, a name or an index, below `path`."""
    return path + at if at.startswith("[") else _join(path, _clip(at))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _shown(value: object) -> str:
    return f"'{_clip(value)}'" if isinstance(value, str) else _clip(str(value))


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "..."


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and isinstance(value, float) else str(value)
