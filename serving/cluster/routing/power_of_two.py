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
_ADAPTER_TOKENS = 4096
"""Prompt tokens that an engine reads in the time that it takes to load an adapter, which may push out another one."""


class PowerOfTwo:
    """Of two replicas drawn by `random`, the one with less to do.

    Counted are prompt tokens that wait, answers at work, and the request's adapter where it is not loaded.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, request: EngineRequest, candidates: Sequence[C]) -> C:
        """See RoutingPolicy."""
        if len(candidates) == 1:
            return candidates[0]
        one, other = self._random.sample(candidates, 2)
        return other if _cost(request, other) < _cost(request, one) else one


def _cost(request: EngineRequest, candidate: Candidate) -> int:
    cost = candidate.queued_tokens + _REQUEST_TOKENS * candidate.requests
    if request.adapter is not None and not candidate.holds(request.adapter):
        cost += _ADAPTER_TOKENS
    return cost
