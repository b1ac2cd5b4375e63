"""Log probabilities of tokens, as chat completions and responses show them."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypedDict

from serving.generation.types import LogprobEntry

LOWEST_LOGPROB = -9999.0
"""What OpenAI reports for tokens that could not have been chosen: JSON has no infinity."""


class TopLogprob(TypedDict):
    """An alternative at one position; `bytes` is its UTF-8, one number a byte."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """The token that was chosen at one position."""

    top_logprobs: list[TopLogprob]


def shown_logprobs(entries: Iterable[LogprobEntry]) -> list[TokenLogprob]:
    """The entries, one a token."""
    return [
        TokenLogprob(
            token=entry.token,
            logprob=max(entry.logprob, LOWEST_LOGPROB),
            bytes=list(entry.utf8),
            top_logprobs=[
                TopLogprob(token=token, logprob=max(logprob, LOWEST_LOGPROB), bytes=list(utf8))
                for token, logprob, utf8 in entry.top
            ],
        )
        for entry in entries
    ]
