"""Label values from outside: unknown ones are folded into one, which bounds the number of series."""

from __future__ import annotations

from collections.abc import Iterable

NONE = "none"
"""What the request did not get far enough to have, or teams where there are none."""

OTHER = "other"
"""Every value that is not one of the known."""


class KnownValues:
    """Closed set of label values, such as the models in the settings."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = frozenset((*known, NONE))

    def fold(self, value: str | None) -> str:
        """The value where it is known, OTHER where not, NONE where there is none."""
        if value is None:
            return NONE
        return value if value in self._known else OTHER


class FirstValues:
    """First `limit` values ever seen, for sets that change while the process runs, such as teams."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def fold(self, value: str | None) -> str:
        """The value if it is among the first ones, OTHER where not, NONE where there is none."""
        if value is None:
            return NONE
        if value not in self._seen:
            if len(self._seen) >= self._limit:
                return OTHER
            self._seen.add(value)
        return value
