"""Requests as vLLM's SamplingParams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from serving.engine.base import Constraint, EngineRequest
from serving.engine.vllm.grammars import grammar_of
from serving.engine.vllm.patches.continued_grammar import CONSTRAINED_TOKENS
from serving.errors import InvalidRequestError

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams


def sampling_params(request: EngineRequest) -> SamplingParams:
    """vLLM's parameters for a request. Raises InvalidRequestError for values that vLLM refuses."""
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    sampling = request.sampling
    try:
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            seed=sampling.seed,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=dict(sampling.logit_bias) if sampling.logit_bias else None,
            logprobs=sampling.logprobs,
            stop_token_ids=list(sampling.stop_token_ids),
            structured_outputs=None if request.constraint is None else _structured_outputs(request.constraint),
            extra_args={CONSTRAINED_TOKENS: request.constrained_tokens} if request.constrained_tokens else None,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY,
        )
    except (VLLMClientError, ValueError) as error:
        raise InvalidRequestError(str(error)) from error


def _structured_outputs(constraint: Constraint) -> StructuredOutputsParams:
    from vllm.sampling_params import StructuredOutputsParams

    constraint = grammar_of(constraint)
    match constraint.kind:
        case "regex":
            return StructuredOutputsParams(regex=constraint.value)
        case "choice":
            return StructuredOutputsParams(choice=json.loads(constraint.value))
        case _:
            return StructuredOutputsParams(grammar=constraint.value)
