"""jsonschema's validators with patterns that are matched in bounded time.

Python's `re` tries every way to read a text: `^(a+)+$` takes days for 40 letters, and all threads wait.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from jsonschema import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from serving.schemas.languages import Languages
from serving.schemas.patterns import Choice, Class, Look, Loop, Node, PatternError, Sequence, parsed

_SHORT = 12
"""Characters of a text that no pattern takes long for."""
_FEW_LOOPS = 2


@functools.cache
def safe(draft: Any) -> Any:
    """A draft's validator class with patterns matched in bounded time."""
    made: Any = extend(draft, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # as typeshed has it
    return made


def validator_in(draft: Any, schema: Any, **options: Any) -> Any:
    """Validator of a schema by a draft; it reads no reference from the network."""
    return safe(draft)(schema, registry=Registry(), **options)


def found(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text; raises PatternError for one that would take too long."""
    return re.search(pattern, text) is not None if len(text) <= _SHORT else _matcher(pattern).finds(text)


class _Matcher:
    """Matcher of a pattern by derivatives: a step for each character, whatever the pattern."""

    def __init__(self, node: Node) -> None:
        self._languages = Languages()
        self._start = self._languages.matches(node)

    def finds(self, text: str) -> bool:
        languages, term = self._languages, self._start
        for character in text:
            if term in (languages.anything, languages.nothing):
                break
            term = languages.after(term, ord(character))
        return languages.nullable(term)


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> _Matcher:
    return _Matcher(parsed(pattern))


def is_quick(node: Node) -> bool:
    """Whether `re` reads a text within the square of its length: two repetitions, each of one character."""
    loops = list(_loops(node))
    return len(loops) <= _FEW_LOOPS and all(isinstance(loop.part, Class) for loop in loops)


def _loops(node: Node) -> Iterator[Loop]:
    match node:
        case Loop():
            yield node
            yield from _loops(node.part)
        case Sequence() | Choice():
            for part in node.parts:
                yield from _loops(part)
        case Look():
            yield from _loops(node.part)
        case _:
            return


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    try:
        matches = found(pattern, instance)
    except PatternError:
        matches = len(instance) > _SHORT or re.search(pattern, instance) is not None
    if not matches:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")
