"""Reply of POST /v1/chat/completions, as OpenAI shapes it.

Fields marked NotRequired are left out where they say nothing; all others are always there, null or not.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from serving.api.openai.logprobs import TokenLogprob


class ChoiceLogprobs(TypedDict):
    """Log probabilities of a choice's tokens; `reasoning` is ours, for the analysis channel."""

    content: list[TokenLogprob] | None
    refusal: None
    reasoning: NotRequired[list[TokenLogprob]]


class ReplyFunction(TypedDict):
    """Function that is called, with arguments exactly as the model wrote them."""

    name: str
    arguments: str


class ReplyToolCall(TypedDict):
    """A function the model asks the client to call."""

    id: str
    type: Literal["function"]
    function: ReplyFunction


class Thinking(TypedDict):
    """Texts before the answer; "" for a channel that was not used."""

    analysis: NotRequired[str]
    commentary: str


class HistoryMessage(TypedDict):
    """An earlier message as it stands in the prompt; `name` is a tool result's function, `recipient` a call's."""

    role: str
    channel: str | None
    content: str
    name: NotRequired[str]
    recipient: NotRequired[str]


class Parsed(TypedDict):
    """The whole exchange by its parts; `developer_instructions` is the developer message's text, tools included."""

    developer_instructions: str | None
    history: list[HistoryMessage]
    analysis: NotRequired[str]
    commentary: str
    final: str


class ReplyMessage(TypedDict):
    """The answer by channels: final, analysis, commentary. `content` is null where there are calls alone.

    `reasoning_truncated` is there, and true, where a budget ended the analysis; `thinking` and `parsed` where asked.
    """

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]
    commentary: NotRequired[str]
    tool_calls: NotRequired[list[ReplyToolCall]]
    reasoning_truncated: NotRequired[bool]
    thinking: NotRequired[Thinking]
    parsed: NotRequired[Parsed]


class Choice(TypedDict):
    """One of the `n` answers."""

    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str


class PromptTokensDetails(TypedDict):
    """Parts of prompt_tokens."""

    cached_tokens: int


class CompletionTokensDetails(TypedDict):
    """Parts of completion_tokens; reasoning_tokens counts the analysis channel."""

    reasoning_tokens: int


class CompletionUsage(TypedDict):
    """Tokens spent, over all choices. `thinking_tokens`: analysis and commentary, where `separate_thinking` asked.

    `cache` is there where no engine worked for the request: its answer was kept, or another's was shared.
    `recovered` counts, by kind, where the server mended what the model wrote; it is left out where it never did.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    thinking_tokens: NotRequired[int]
    cache: NotRequired[Literal["hit", "shared"]]
    recovered: NotRequired[dict[str, int]]


class ChatCompletion(TypedDict):
    """The whole reply. `model` is the name that was asked for; `created` is in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
