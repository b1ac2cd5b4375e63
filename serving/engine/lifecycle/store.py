"""Lifecycle state that all ingress processes share, and the protocol of its store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.engine.lifecycle.state import Cause


@dataclass(frozen=True, slots=True)
class Wanted:
    """Wanted state of a model: loaded or not, its cause, and its time in seconds since the epoch."""

    loaded: bool
    cause: Cause
    since: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The stored state of one model; None for values that were never written.

    `used` is the time of the last use, in seconds since the epoch; `replicas` the number that the autoscaler wants.
    """

    wanted: Wanted | None = None
    used: float | None = None
    replicas: int | None = None


class LifecycleStore(Protocol):
    """Store of lifecycles, shared by all ingress replicas. Every method raises StoreUnavailableError."""

    async def read(self, models: Iterable[str]) -> Mapping[str, Kept]:
        """The stored state of each model."""
        ...

    async def want(self, model: str, wanted: Wanted) -> None:
        """Write the wanted state; the last writer wins."""
        ...

    async def use(self, model: str, at: float) -> None:
        """Write the time of a use."""
        ...


class MemoryLifecycleStore:
    """Store of lifecycles in memory: for one process, and for tests of several."""

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
