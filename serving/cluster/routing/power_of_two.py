"""Power of two choices."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from serving.cluster.routing.base import C, Candidate
from serving.engine.base import EngineRequest


class PowerOfTwo:
    """Of two replicas drawn by `random`, the one with fewer requests."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: EngineRequest, candidates: Sequence[C]) -> C:
        """See RoutingPolicy."""
        if len(candidates) == 1:
            return candidates[0]
        one, other = self._random.sample(candidates, 2)
        return other if _requests(other) < _requests(one) else one


def _requests(candidate: Candidate) -> int:
    """Requests at the replica: as many as it has said, or as there are from here if those are more."""
    load = candidate.load
    return candidate.calls if load is None else max(candidate.calls, load.running + load.waiting)
