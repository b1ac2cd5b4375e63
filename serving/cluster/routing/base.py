"""The protocol of routing policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from serving.engine.base import Adapter, EngineRequest


class Candidate(Protocol):
    """An engine replica that takes requests."""

    @property
    def requests(self) -> int:
        """Number of requests that it has, from all ingress replicas as far as it has said so."""
        ...

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens that it has to read before those of another request."""
        ...

    def holds(self, adapter: Adapter) -> bool:
        """Whether it has the adapter in its memory, as far as it has said so."""
        ...


C = TypeVar("C", bound=Candidate)


class RoutingPolicy(Protocol):
    """A way to choose the engine replica of a request, where requests travel on connections.

    The choice is made in each ingress process, and without a word to anybody.
    """

    def choose(self, request: EngineRequest, candidates: Sequence[C]) -> C:
        """One of `candidates`, of which there is one at least."""
        ...
