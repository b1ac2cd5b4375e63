"""What all processes have to know of a model's life, and who keeps it for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.engine.lifecycle.state import Cause


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whether a model is to be loaded, why, and since when in seconds since the epoch."""

    loaded: bool
    cause: Cause
    since: float


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of one model; None is for what nobody has said.

    `used` is when it was used last, in seconds since the epoch; `replicas` is how many whoever scales it wants.
    """

    wanted: Wanted | None = None
    used: float | None = None
    replicas: int | None = None


class LifecycleStore(Protocol):
    """Shared by all ingress replicas, and outlives each. Every method raises StoreUnavailableError."""

    async def read(self, models: Iterable[str]) -> Mapping[str, Kept]:
        """What is kept of each of them."""
        ...

    async def want(self, model: str, wanted: Wanted) -> None:
        """Keep this; the last one to speak is heard."""
        ...

    async def use(self, model: str, at: float) -> None:
        """Keep that it was used."""
        ...


class MemoryLifecycleStore:
    """See LifecycleStore. For one process, and for tests of several."""

    def __init__(self) -> None:
        self._wanted: dict[str, Wanted] = {}
        self._used: dict[str, float] = {}

    async def read(self, models: Iterable[str]) -> Mapping[str, Kept]:
        """See LifecycleStore."""
        return {model: Kept(self._wanted.get(model), self._used.get(model)) for model in models}

    async def want(self, model: str, wanted: Wanted) -> None:
        """See LifecycleStore."""
        self._wanted[model] = wanted

    async def use(self, model: str, at: float) -> None:
        """See LifecycleStore."""
        self._used[model] = at
