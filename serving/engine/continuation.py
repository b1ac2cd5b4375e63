"""Continuation of a completion from the tokens that there are."""

from __future__ import annotations

from dataclasses import replace

from serving.engine.base import EngineRequest
from serving.engine.seeds import wrapped_seed

_SEED_STRIDE = 0xD1B54A32D192ED03


def continued(request: EngineRequest, made: list[int]) -> EngineRequest:
    """`request` for what is left of its completion after the tokens `made`."""
    if not made:
        return request
    sampling, seed = request.sampling, request.sampling.seed
    return replace(
        request,
        completion_token_ids=request.completion_token_ids + made,
        constrained_tokens=request.constrained_tokens + len(made) if request.constraint else 0,
        sampling=replace(
            sampling,
            max_tokens=sampling.max_tokens - len(made),
            min_tokens=max(0, sampling.min_tokens - len(made)),
            # Not the first seed again: its random numbers are used up.
            seed=seed if seed is None else wrapped_seed(seed + len(made) * _SEED_STRIDE),
        ),
    )
