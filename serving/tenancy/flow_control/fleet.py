"""How many engine replicas share a model's load, and how many ingress replicas hand it to them."""

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
    """Whoever knows which replicas run."""

    def size(self) -> FleetSize:
        """As far as is known at this moment; asks nobody, so that it may be called every second."""
        ...
