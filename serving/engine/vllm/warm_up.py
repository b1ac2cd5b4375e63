"""Requests that vLLM answers before the first user's: they have it compile and load what it makes lazily."""

from __future__ import annotations

from collections.abc import Iterator

from serving.engine.accelerator import Accelerator
from serving.engine.base import Constraint, EngineRequest, Sampling

# A short prompt of ordinary words (o200k ids); two lengths so that prefill and decode both run once at least.
_WARM_UP_PROMPTS = ([13225, 2375], [13225, 2375] * 32)
_WARM_UP_TOKENS = 8
# Each way of choosing a token has kernels of its own on a GPU, which are compiled when they are first needed.
_WARM_UP_SAMPLING = (
    Sampling(max_tokens=_WARM_UP_TOKENS, temperature=0.0),
    Sampling(max_tokens=_WARM_UP_TOKENS),
    Sampling(max_tokens=_WARM_UP_TOKENS, top_p=0.9, top_k=40, min_p=0.01),
    Sampling(max_tokens=_WARM_UP_TOKENS, seed=1, logprobs=5),
    Sampling(
        max_tokens=_WARM_UP_TOKENS,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        repetition_penalty=1.1,
        logit_bias={2375: 1.0},
    ),
)
_WARM_UP_CONSTRAINT = Constraint("json_schema", '{"type":"object","properties":{"ready":{"type":"boolean"}}}')


def warm_up_requests(accelerator: Accelerator) -> Iterator[EngineRequest]:
    """Two lengths of prompt, greedy; on a GPU also sampled, with logprobs, penalties and a schema.

    Their ids are left to the caller. A CPU compiles nothing, and sampling is slow there.
    """
    for prompt in _WARM_UP_PROMPTS:
        if accelerator.device == "cpu":
            yield EngineRequest("", prompt, _WARM_UP_SAMPLING[0])
            continue
        for sampling in _WARM_UP_SAMPLING:
            yield EngineRequest("", prompt, sampling)
        yield EngineRequest("", prompt, _WARM_UP_SAMPLING[1], constraint=_WARM_UP_CONSTRAINT)
