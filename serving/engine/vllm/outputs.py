"""vLLM's outputs as token deltas."""

from __future__ import annotations

from typing import Any

from serving.engine.base import FinishReason, TokenDelta, TokenLogprobs
from serving.errors import EngineDiedError


def delta_of(completion: Any, cached_tokens: int, logprobs: int | None) -> TokenDelta:
    """A delta of vLLM's CompletionOutput, with `logprobs` alternatives a token.

    Raises EngineDiedError where vLLM gave up on the request.
    """
    return TokenDelta(
        token_ids=list(completion.token_ids),
        finish_reason=_finish_reason(completion.finish_reason),
        logprobs=None if logprobs is None else _logprobs(completion, logprobs),
        cached_tokens=cached_tokens,
    )


def _finish_reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    if reason in ("stop", "repetition"):
        return "stop"
    if reason == "length":
        return "length"
    # "abort" comes when vLLM is shut down under a request, "error" when a step failed.
    raise EngineDiedError(f"The engine gave up on this request ({reason}).")


def _logprobs(completion: Any, count: int) -> list[TokenLogprobs]:
    entries: list[TokenLogprobs] = []
    for token_id, by_token in zip(completion.token_ids, completion.logprobs or (), strict=True):
        ranked = sorted(by_token.items(), key=lambda item: item[1].rank)
        top = tuple((other, value.logprob) for other, value in ranked[:count])
        entries.append(TokenLogprobs(token_id, by_token[token_id].logprob, top))
    return entries
