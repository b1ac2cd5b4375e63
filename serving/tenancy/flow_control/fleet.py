"""The size of the fleet: a model's engine replicas, and the ingress replicas that share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FleetSize:
    """Replicas that run now: of each model's engine, and of the ingress. What is not known is left out, or None.

    `sequences`: how many each model's engine decodes together, as it says itself.
    """

    engines: Mapping[str, int]
    ingresses: int | None
    sequences: Mapping[str, int] = field(default_factory=dict)


class Fleet(Protocol):
    """A view of the replicas that run."""

    def size(self) -> FleetSize:
        """The size as last seen. Asks nobody, so that it may be called every second."""
        ...
