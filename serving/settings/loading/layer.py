"""One source of settings as a nested dict that remembers where each value came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

KeyPath = tuple[str, ...]


class Problem(NamedTuple):
    """One mistake: the field in dotted form, and what is wrong with it and how to put it right."""

    field: str
    message: str


def dotted(path: KeyPath) -> str:
    """The field as people write it; the root is "settings"."""
    return ".".join(path) or "settings"


@dataclass(slots=True)
class Layer:
    """Nested values, the origin of each ("serving.yaml line 3", "SERVING_PORT", "--port"), and what was wrong.

    Lists are single values: merging replaces them whole, and an origin is kept for the list, not for its items.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def set(self, path: KeyPath, value: Any, origin: str) -> None:
        """Put `value` at `path`, merging where both the old and the new value are mappings."""
        parent = self.values
        for depth, key in enumerate(path[:-1], start=1):
            child = parent.get(key)
            if not isinstance(child, dict):
                child = parent[key] = {}
                self.origins[path[:depth]] = origin
            parent = child
        parent[path[-1]] = merged(parent.get(path[-1]), value)
        self._mark(path, value, origin)

    def _mark(self, path: KeyPath, value: Any, origin: str) -> None:
        self.origins[path] = origin
        if isinstance(value, dict):
            for key, item in value.items():
                self._mark((*path, key), item, origin)

    def get(self, path: KeyPath) -> Any:
        """The value at `path`, or None."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path`, or the nearest mapping around it, came from."""
        for length in range(len(path), 0, -1):
            if (found := self.origins.get(path[:length])) is not None:
                return found
        return None

    def report(self, path: KeyPath, message: str) -> None:
        """Note a problem with the value at `path`, and where that value came from."""
        origin = self.origin(path)
        self.problems.append(Problem(dotted(path), f"{message} ({origin})" if origin else message))

    def under(self, higher: Layer) -> Layer:
        """Both layers in one; where both have a value, `higher` wins."""
        return Layer(
            values=merged(self.values, higher.values),
            origins=self.origins | higher.origins,
            problems=self.problems + higher.problems,
        )


def merged(lower: Any, higher: Any) -> Any:
    """`higher` over `lower`: mappings key by key, anything else replaced. Neither argument is changed."""
    if not isinstance(lower, dict) or not isinstance(higher, dict):
        return higher
    return lower | {key: merged(lower[key], value) if key in lower else value for key, value in higher.items()}
