"""The reply of POST /v1/completions, as OpenAI shapes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Literal, NotRequired

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


class TextChunks:
    """The frames of a streamed completion; with `include_usage` every chunk says `"usage":null` and usage() is last."""

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool) -> None:
        self._head = (
            f'data: {{"id":{quote(completion_id)},"object":"text_completion","created":{created},'
            f'"model":{quote(model)},"choices":['
        )
        self._tail = '],"usage":null}\n\n' if include_usage else "]}\n\n"

    def text(self, choice: int, text: str, logprobs: str | None = None) -> bytes:
        """More text; `logprobs` as JSON."""
        return (
            f'{self._head}{{"index":{choice},"text":{quote(text)},"logprobs":{logprobs or "null"},'
            f'"finish_reason":null}}{self._tail}'
        ).encode("ascii")

    def finish(self, choice: int, reason: str) -> bytes:
        """The last chunk of a choice."""
        return (
            f'{self._head}{{"index":{choice},"text":"","logprobs":null,"finish_reason":{quote(reason)}}}{self._tail}'
        ).encode("ascii")

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The chunk after all choices, without any: what the answer cost."""
        return f'{self._head}],"usage":{json.dumps(usage)}}}\n\n'.encode("ascii")
