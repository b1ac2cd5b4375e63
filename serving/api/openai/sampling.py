"""Mapping of sampling fields and constraints to the engine's types."""

from __future__ import annotations

from serving.api.wire.sampling_fields import SMALLEST_TOP_P, SamplingFields
from serving.api.wire.structured_outputs import ConstrainedFields
from serving.engine.base import AS_MANY_AS_FIT, Constraint, Sampling


def sampling_of(request: SamplingFields, *, logprobs: int | None) -> Sampling:
    """Sampling of `request`; its max_tokens is set later, once the prompt's length is known."""
    return Sampling(
        max_tokens=1,
        temperature=_or(request.temperature, 1.0),
        top_p=max(_or(request.top_p, 1.0), SMALLEST_TOP_P),
        top_k=max(request.top_k or 0, 0),
        min_p=_or(request.min_p, 0.0),
        seed=request.seed,
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, 1.0),
        logit_bias={int(token): bias for token, bias in request.logit_bias.items()} if request.logit_bias else None,
        logprobs=logprobs,
        stop_token_ids=tuple(request.stop_token_ids or ()),
        min_tokens=AS_MANY_AS_FIT if request.ignore_eos else request.min_tokens or 0,
    )


def constraint_of(request: ConstrainedFields) -> Constraint | None:
    """Constraint of the text, in the engine's type."""
    asked = request.answer_format
    return None if asked is None else Constraint(asked.kind, asked.value)


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
