"""JSON as requests carry it, checked before it is shown to a model."""

from __future__ import annotations

import json
import math
from typing import Any

from serving.errors import InvalidValueError

MAX_DEPTH = 64
"""Levels of nesting that are read; no schema that means anything comes near."""


def compact(value: Any) -> str:
    """`value` as JSON without blanks, keys in the order given, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def check(value: Any, place: str, depth: int = MAX_DEPTH) -> None:
    """Raise InvalidValueError, with `place` in `param`, for what JSON cannot write and for deep nesting."""
    if depth == 0:
        raise InvalidValueError(f"{place} is nested deeper than {MAX_DEPTH} levels.", param=place)
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                raise InvalidValueError(f"{place} has a number that JSON cannot write: {value}.", param=place)
        case list() | tuple():
            for item in value:
                check(item, place, depth - 1)
        case dict() if all(isinstance(key, str) for key in value):
            for item in value.values():
                check(item, place, depth - 1)
        case _:
            raise InvalidValueError(f"{place} has a value that JSON cannot write: {type(value).__name__}.", param=place)
