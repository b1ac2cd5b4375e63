"""Requests for generation and the events of their answers: the seam between the APIs and generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from serving.engine.base import Constraint, Sampling
from serving.harmony.channels import Channel, TokenCounts
from serving.harmony.conversation import Conversation, FunctionCall


@dataclass(frozen=True, slots=True)
class ChatGeneration:
    """Chat request after validation, free of HTTP and JSON.

    `n` choices are made; choice i has seed + i. `max_tokens=None` means whatever the context has left; `plan()` settles
    it, and `sampling.max_tokens` is not looked at. With `caps_max_tokens` more than the context has left means the same
    as None. `stop` strings are matched on the final channel's text and not delivered. `include_reasoning=False` hides
    the analysis channel, its logprobs included; its tokens still count.

    `forced_tools` names functions of which one must be called; () leaves the choice to the model.
    `plain_calls` are functions whose calls are plain text under a constraint, by name; those of all others are JSON.
    `parallel_tool_calls=False` ends a choice with its first call. `answer` constrains the final channel's text alone.
    Analysis is closed, and the model made to answer, after `max_reasoning_tokens` of it, or when no more than
    `min_answer_tokens` of max_tokens are left. `truncate` drops the oldest turns of a conversation that is too long,
    so that max_tokens fit or, where that is None, `answer_share` of the context is left.

    `second_chance`: a turn without an answer goes on with the header of a final message, once. `names_again`: a call of
    a function that was not offered becomes, once, a call of one that is on offer, which the model names.
    """

    request_id: str
    conversation: Conversation
    sampling: Sampling
    max_tokens: int | None = None
    caps_max_tokens: bool = False
    n: int = 1
    stop: tuple[str, ...] = ()
    include_reasoning: bool = True
    forced_tools: tuple[str, ...] = ()
    plain_calls: tuple[tuple[str, Constraint], ...] = ()
    parallel_tool_calls: bool = True
    answer: Constraint | None = None
    max_reasoning_tokens: int | None = None
    min_answer_tokens: int = 0
    truncate: bool = False
    answer_share: float = 0.25
    second_chance: bool = True
    names_again: bool = False


@dataclass(frozen=True, slots=True)
class LogprobEntry:
    """Log probability of one token as OpenAI reports it: `token` is its text, `utf8` its bytes, `top` the others."""

    token: str
    logprob: float
    utf8: bytes
    top: tuple[tuple[str, float, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent, summed over choices.

    `channels` are parts of `completion_tokens`; the rest is structure. `cached_tokens` is part of `prompt_tokens`.
    `recovered` counts the recoveries of this answer by kind; kept answers have none.
    `cache` says that no engine worked for this request: its answer was kept ("hit"), or another's ("shared").
    """

    prompt_tokens: int
    completion_tokens: int
    channels: TokenCounts = field(default_factory=TokenCounts)
    cached_tokens: int = 0
    cache: Literal["hit", "shared"] | None = None
    recovered: Mapping[str, int] = field(default_factory=dict)

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of analysis, as OpenAI counts reasoning."""
        return self.channels["analysis"]


@dataclass(slots=True)
class ChatChoice:
    """One finished choice. `texts` has the channels on which something was written."""

    index: int
    texts: dict[Channel, str] = field(default_factory=dict)
    tool_calls: list[FunctionCall] = field(default_factory=list)
    finish_reason: str = "stop"
    reasoning_truncated: bool = False
    content_logprobs: list[LogprobEntry] | None = None
    reasoning_logprobs: list[LogprobEntry] | None = None

    @property
    def content(self) -> str:
        """Text of the final channel."""
        return self.texts.get("final", "")

    @property
    def reasoning(self) -> str:
        """Text of the analysis channel."""
        return self.texts.get("analysis", "")

    @property
    def commentary(self) -> str:
        """Text of the commentary channel."""
        return self.texts.get("commentary", "")


@dataclass(slots=True)
class ChatAnswer:
    """Answer to a chat request: all choices by index, their usage, and the prompt's tokens."""

    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: Sequence[int] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """Event of the engine's first tokens, which may have no text yet. Exactly one, first."""

    prompt_token_ids: Sequence[int] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of one choice. `opens` is true on the first delta of a message on that channel."""

    choice: int
    channel: Channel
    text: str
    opens: bool = False
    logprobs: tuple[LogprobEntry, ...] | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """Begin of a call: its index in the choice's calls, its minted id and name. Arguments follow."""

    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    """More of a call's arguments."""

    choice: int
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """End of one choice: "stop", "length" or "tool_calls". `reasoning_truncated`: its budget cut the analysis.

    `stop` is the stop string that ended it, if one did.
    """

    choice: int
    finish_reason: str
    reasoning_truncated: bool = False
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """End of the generation and its usage. Exactly one, last."""

    usage: Usage


ChatEvent = GenerationStarted | TextDelta | ToolCallDelta | ToolArgumentsDelta | ChoiceFinished | GenerationFinished

__all__ = [
    "ChatAnswer",
    "ChatChoice",
    "ChatEvent",
    "ChatGeneration",
    "ChoiceFinished",
    "GenerationFinished",
    "GenerationStarted",
    "LogprobEntry",
    "TextDelta",
    "ToolArgumentsDelta",
    "ToolCallDelta",
    "Usage",
]
