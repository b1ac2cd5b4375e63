"""Layer of settings: one source as a nested dict that remembers the origin of each value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

KeyPath = tuple[str, ...]


class Problem(NamedTuple):
    """Problem with a setting: the field in dotted form, the mistake and its fix."""

    field: str
    message: str


def dotted(path: KeyPath) -> str:
    """Name of a field as people write it; the root is "settings"."""
    return ".".join(path) or "settings"


@dataclass(slots=True)
class Layer:
    """Layer: nested values, the origin of each ("serving.yaml line 3", "SERVING_PORT", "--port"), and problems.

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
        """Value at `path`, or None."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def origin(self, path: KeyPath) -> str | None:
        """Origin of the value at `path`, or of the nearest mapping around it."""
        for length in range(len(path), 0, -1):
            if (found := self.origins.get(path[:length])) is not None:
                return found
        return None

    def report(self, path: KeyPath, message: str) -> None:
        """Record a problem with the value at `path`, with the value's origin."""
        origin = self.origin(path)
        self.problems.append(Problem(dotted(path), f"{message} ({origin})" if origin else message))

    def under(self, higher: Layer) -> Layer:
        """Merge `higher` over this layer; where both have a value, `higher` wins."""
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
