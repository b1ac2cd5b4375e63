"""JSON values of requests, checked before they are shown to a model."""

from __future__ import annotations

import json
import math
from typing import Any

from serving.errors import InvalidValueError

MAX_DEPTH = 64
"""Most levels of nesting that are read; no schema that means anything comes near."""


def compact(value: Any) -> str:
    """Write `value` as JSON without blanks, keys in the order given, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def check(value: Any, place: str) -> None:
    """Raise InvalidValueError for what JSON cannot write and for deep nesting; `param` is the place within `place`."""
    _check(value, (place,))


def joined(path: tuple[str | int, ...]) -> str:
    """Write ("tools[0]", "enum", 3) as tools[0].enum[3]."""
    head, *rest = path
    return str(head) + "".join(f"[{step}]" if isinstance(step, int) else f".{step:.100}" for step in rest)


def _check(value: Any, path: tuple[str | int, ...]) -> None:
    if len(path) > MAX_DEPTH:
        place = str(path[0])
        raise InvalidValueError(f"{place} is nested deeper than {MAX_DEPTH} levels.", param=place)
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                raise _unwritable(f"a number that JSON cannot write: {value}", path)
        case list() | tuple():
            for index, item in enumerate(value):
                _check(item, (*path, index))
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise _unwritable(f"a key that is no text: {type(key).__name__}", path)
                _check(item, (*path, key))
        case _:
            raise _unwritable(f"a value that JSON cannot write: {type(value).__name__}", path)


def _unwritable(what: str, path: tuple[str | int, ...]) -> InvalidValueError:
    place = joined(path)
    return InvalidValueError(f"{place:.200} has {what}.", param=place)
