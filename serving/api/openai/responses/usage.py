"""Usage in the form of this API."""

from __future__ import annotations

from serving.api.openai.responses.response import InputTokensDetails, OutputTokensDetails, ResponseUsage
from serving.generation.types import Usage


def shown_usage(usage: Usage) -> ResponseUsage:
    """The tokens of a generation."""
    shown = ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens, cache_write_tokens=0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
    if usage.cache is not None:
        shown["cache"] = usage.cache
    if usage.recovered:
        shown["recovered"] = dict(usage.recovered)
    return shown
