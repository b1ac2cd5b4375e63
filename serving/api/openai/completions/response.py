"""The reply of POST /v1/completions, as OpenAI shapes it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from serving.api.openai.chat.response import PromptTokensDetails


class CompletionLogprobs(TypedDict):
    """Log probabilities in OpenAI's older form: four lists, an entry for each token.

    A token that is not whole characters is written as its bytes: "bytes:\\xe2\\x80". `text_offset` counts characters
    from the beginning of the choice's text. Each of `top_logprobs` has the chosen token in it too.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One choice; those of the first prompt come first."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str


class TextUsage(TypedDict):
    """Tokens spent, over all choices; each prompt counts once. `cache` as in CompletionUsage."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    cache: NotRequired[Literal["hit", "shared"]]


class TextCompletion(TypedDict):
    """The whole reply."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TextUsage
