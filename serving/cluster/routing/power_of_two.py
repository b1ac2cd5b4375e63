"""Power of two choices."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from serving.cluster.routing.base import C, Candidate
from serving.engine.base import EngineRequest

_REQUEST_TOKENS = 128
"""Prompt tokens that take an engine as long as one more answer at work slows it down for a request that comes.

Between engines without a queue it decides by their answers; a prompt of thousands of tokens outweighs tens of answers.
"""


class PowerOfTwo:
    """Of two replicas drawn by `random`, the one with less to do: prompt tokens that wait, and answers at work."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: EngineRequest, candidates: Sequence[C]) -> C:
        """See RoutingPolicy."""
        if len(candidates) == 1:
            return candidates[0]
        one, other = self._random.sample(candidates, 2)
        return other if _cost(other) < _cost(one) else one


def _cost(candidate: Candidate) -> int:
    return candidate.queued_tokens + _REQUEST_TOKENS * candidate.requests
