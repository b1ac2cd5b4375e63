"""Facets: what a schema says of the values of one JSON type, in a form that two schemas' facets can be merged in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from serving.schemas.numbers import NumberLimits

T = TypeVar("T")

Kind = Literal["null", "boolean", "number", "string", "array", "object"]
KINDS: tuple[Kind, ...] = ("null", "boolean", "number", "string", "array", "object")


@dataclass(frozen=True, slots=True)
class Part:
    """Schema within a document, where it stands (`at`), and what its references are resolved by. Equal by place."""

    key: int
    schema: Any = field(compare=False, repr=False)
    at: str = field(compare=False)
    resolver: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Facets:
    """Facets of null and booleans, and what all types have.

    `values` are the only values, if any are listed; each is then checked by the schemas themselves. A value that one of
    the schemas in `avoid` allows is not allowed.
    """

    values: tuple[Literally, ...] | None = None
    avoid: tuple[Part, ...] = ()

    def merged(self, other: Self) -> Self:
        """Meet of two shapes: all that both say."""
        return replace(self, **self._both(other))

    def _both(self, other: Self) -> dict[str, Any]:
        values = other.values if self.values is None else self.values
        return {"values": values, "avoid": _once(self.avoid + other.avoid)}


@dataclass(frozen=True, slots=True)
class Literally:
    """A value as compact JSON, and itself."""

    text: str
    value: Any = field(compare=False, repr=False)


_UNLIMITED = NumberLimits()


@dataclass(frozen=True, slots=True)
class NumberFacets(Facets):
    """Facets of numbers."""

    limits: NumberLimits = _UNLIMITED

    def _both(self, other: Self) -> dict[str, Any]:
        return Facets._both(self, other) | {"limits": self.limits.merged(other.limits)}


@dataclass(frozen=True, slots=True)
class StringFacets(Facets):
    """Facets of strings. `unlike` are patterns that must not match, `excluded` texts."""

    least: int = 0
    most: int | None = None
    patterns: tuple[tuple[str, str], ...] = ()
    unlike: tuple[tuple[str, str], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    excluded: tuple[str, ...] = ()

    def _both(self, other: Self) -> dict[str, Any]:
        return Facets._both(self, other) | {
            "least": max(self.least, other.least),
            "most": _lower(self.most, other.most),
            "patterns": _once(self.patterns + other.patterns),
            "unlike": _once(self.unlike + other.unlike),
            "formats": _once(self.formats + other.formats),
            "excluded": _once(self.excluded + other.excluded),
        }


@dataclass(frozen=True, slots=True)
class Items:
    """Rules of one schema for an array's items: of the first ones, and of the rest (None: nothing)."""

    prefix: tuple[Part, ...] = ()
    rest: Part | None = None


@dataclass(frozen=True, slots=True)
class ArrayFacets(Facets):
    """Facets of arrays. `contains` are schemas with the least number of items that they must allow."""

    items: tuple[Items, ...] = ()
    least: int = 0
    most: int | None = None
    unique: str | None = None
    contains: tuple[tuple[Part, int], ...] = ()

    def _both(self, other: Self) -> dict[str, Any]:
        return Facets._both(self, other) | {
            "items": _once(self.items + other.items),
            "least": max(self.least, other.least),
            "most": _lower(self.most, other.most),
            "unique": self.unique if self.unique is not None else other.unique,
            "contains": _once(self.contains + other.contains),
        }


@dataclass(frozen=True, slots=True)
class Members:
    """Rules of one schema for an object's properties: by name, by pattern (with its place), and of all others."""

    named: tuple[tuple[str, Part], ...] = ()
    patterns: tuple[tuple[str, str, Part], ...] = ()
    others: Part | None = None


@dataclass(frozen=True, slots=True)
class ObjectFacets(Facets):
    """Facets of objects. `names` are schemas of their properties' names; `least_at` is the place of minProperties."""

    members: tuple[Members, ...] = ()
    required: tuple[str, ...] = ()
    names: tuple[Part, ...] = ()
    least: int = 0
    most: int | None = None
    least_at: str = ""

    def _both(self, other: Self) -> dict[str, Any]:
        return Facets._both(self, other) | {
            "members": _once(self.members + other.members),
            "required": _once(self.required + other.required),
            "names": _once(self.names + other.names),
            "least": max(self.least, other.least),
            "most": _lower(self.most, other.most),
            "least_at": self.least_at if self.least >= other.least else other.least_at,
        }


Shape = dict[Kind, tuple[Facets, ...]]
"""Values that a schema allows: by type, as alternatives."""

FREE: dict[Kind, Facets] = {
    "null": Facets(),
    "boolean": Facets(),
    "number": NumberFacets(),
    "string": StringFacets(),
    "array": ArrayFacets(),
    "object": ObjectFacets(),
}
"""Facets that say nothing."""


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _lower(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else min(first, second)
