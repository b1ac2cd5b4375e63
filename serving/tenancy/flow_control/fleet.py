"""Fleet: the numbers of engine replicas and of ingress replicas, by which admission queues are sized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FleetSize:
    """Numbers of running replicas: of each model's engine, and of the ingress. Unknown ones are left out, or None.

    `sequences` is how many sequences each model's engine reports that it decodes together.
    """

    engines: Mapping[str, int]
    ingresses: int | None
    sequences: Mapping[str, int] = field(default_factory=dict)


class Fleet(Protocol):
    """Source of the numbers of replicas."""

    def size(self) -> FleetSize:
        """Numbers known at this moment, without any call to another process: called every second."""
        ...
