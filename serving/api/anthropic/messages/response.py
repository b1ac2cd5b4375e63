"""Replies of POST /v1/messages and POST /v1/messages/count_tokens, as Anthropic shapes them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from serving.api.anthropic.messages.context_management import AppliedEdit

UNSIGNED = "unsigned"
"""The signature of every thinking block: nobody signs thoughts here, and none is checked when it comes back."""

INVALID_JSON = "INVALID_JSON"
"""The one key of an input whose text is no JSON object; Anthropic's documents name it for that."""

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class AnswerThinking(TypedDict):
    """The analysis."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class AnswerText(TypedDict):
    """Answer, or preamble of a call."""

    type: Literal["text"]
    text: str


class AnswerToolUse(TypedDict):
    """A call that the model asks the client to make."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = AnswerThinking | AnswerText | AnswerToolUse


class ThinkingTokens(TypedDict):
    """Part of output_tokens."""

    thinking_tokens: int


class MessageUsage(TypedDict):
    """Tokens spent. The prompt's are the sum of input_tokens and those read from the cache.

    `recovered` counts, by kind, where the server mended what the model wrote; it is left out where it never did.
    """

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens
    recovered: NotRequired[dict[str, int]]


class AppliedEdits(TypedDict):
    """Edits of the context that changed something."""

    applied_edits: list[AppliedEdit]


class MessageReply(TypedDict):
    """The whole reply. `model` is the name that was asked for; `stop_sequence` is what ended it, if one did."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    context_management: NotRequired[AppliedEdits]


class CountedContext(TypedDict):
    """The prompt's length before the context was edited."""

    original_input_tokens: int


class CountedTokens(TypedDict):
    """The length of the prompt that messages, system and tools become."""

    input_tokens: int
    context_management: NotRequired[CountedContext]
