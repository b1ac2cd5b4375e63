"""The protocol of routing policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from serving.engine.base import EngineRequest
from serving.engine.load import EngineLoad


class Candidate(Protocol):
    """An engine replica that takes requests."""

    @property
    def load(self) -> EngineLoad | None:
        """The load that it has reported last; None before it has."""
        ...

    @property
    def calls(self) -> int:
        """Number of requests that it has from this ingress replica."""
        ...


C = TypeVar("C", bound=Candidate)


class RoutingPolicy(Protocol):
    """A way to choose the engine replica of a request, where requests travel on connections.

    The choice is made in each ingress process, and without a word to anybody.
    """

    def choose(self, request: EngineRequest, candidates: Sequence[C]) -> C:
        """One of `candidates`, of which there is one at least."""
        ...
