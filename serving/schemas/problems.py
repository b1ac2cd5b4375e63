"""Reasons why a schema cannot be held, and the bound of the work that is spent on finding out."""

from __future__ import annotations

_MOST_WORK = 60_000
"""Steps, each of some 10 us: about half a second."""


class UnsupportedError(Exception):
    """A keyword that answers cannot be held to: its place in the schema, and why."""

    def __init__(self, at: str, why: str) -> None:
        super().__init__(f"{at}: {why}")
        self.at = at
        self.why = why


class InvalidError(UnsupportedError):
    """A keyword that means nothing: a reference that leads nowhere or to itself."""


class Work:
    """Work that one schema may cost."""

    def __init__(self) -> None:
        self._left = _MOST_WORK

    def take(self, steps: int = 1) -> None:
        """Spend steps; raises UnsupportedError where too many were."""
        self._left -= steps
        if self._left < 0:
            raise UnsupportedError("", "it is too complex to hold answers to.")
