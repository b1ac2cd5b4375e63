"""Body of POST /v1/chat/completions.

Source: OpenAI's API reference, with vLLM's and OpenRouter's extensions and ours (docs/api.md). Fields that are known
and not done are in serving/api/wire/field_rules.py. Null means absent, everywhere.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from serving.api.openai.chat.conversation_fields import ConversationFields
from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.body import parse_object
from serving.api.wire.field_rules import Place
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.sampling_fields import ModelField, SamplingFields, StreamFields
from serving.api.wire.validation import validate


class UsageOptions(WireModel):
    """OpenRouter's name of stream_options.include_usage."""

    include: bool | None = None


class ChatCompletionRequest(StreamFields, SamplingFields, ConversationFields, ModelField):
    """One chat request, checked."""

    places: ClassVar[tuple[Place, ...]] = ("generation", "chat")
    max_completion_tokens: int | None = Field(None, ge=1, description="Most tokens to write, reasoning included.")
    max_tokens: int | None = Field(None, ge=1, description="The older name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives for each token; needs logprobs.")
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in an answer; default true.")
    max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Analysis is closed, and the answer begun, after so many tokens of it."
    )
    min_answer_tokens: int | None = Field(
        None, ge=0, description="So many of max_completion_tokens are kept for the answer."
    )
    include_reasoning: bool | None = Field(None, description="false: the reply leaves `reasoning` out; default true.")
    separate_thinking: bool | None = Field(None, description="true: adds `thinking`, `parsed` and thinking_tokens.")
    thinking_token_budget: int | None = Field(
        None, ge=-1, description="vLLM's name of max_reasoning_tokens; -1: no bound."
    )
    usage: UsageOptions | None = Field(None, description="OpenRouter's name of stream_options.include_usage.")
    transforms: list[str] | None = Field(None, description="OpenRouter's: with 'middle-out' as truncation 'auto'.")
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto: the oldest turns are left out where the conversation is too long."
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ChatCompletionRequest:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise invalid(
                "'max_tokens' and 'max_completion_tokens' are two names for one thing and differ here; "
                "send max_completion_tokens alone.",
                at="max_tokens",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("'top_logprobs' needs 'logprobs' to be true.", at="top_logprobs")
        if self.min_answer_tokens is not None and self.min_answer_tokens > (self.token_limit or self.min_answer_tokens):
            raise invalid("'min_answer_tokens' is more than all tokens of the answer.", at="min_answer_tokens")
        self.check_stream_options()
        if self.min_tokens or self.ignore_eos:
            self._check_fewest_tokens()
        return self

    def _check_fewest_tokens(self) -> None:
        field = "ignore_eos" if self.ignore_eos else "min_tokens"
        if self.answer_format is not None or self.forced_tools:
            raise invalid(f"'{field}' cannot go with an answer of a certain form or a forced call.", at=field)
        if (self.min_tokens or 0) > (self.token_limit or self.min_tokens or 0):
            raise invalid("'min_tokens' is more than all tokens of the answer.", at="min_tokens")

    @model_validator(mode="after")
    def _agrees_on_reasoning(self) -> ChatCompletionRequest:
        if self.reasoning is not None:
            shown = None if self.reasoning.exclude is None else not self.reasoning.exclude
            self.agree("max_reasoning_tokens", self.max_reasoning_tokens, "max_tokens", self.reasoning.max_tokens)
            self.agree("include_reasoning", self.include_reasoning, "exclude", shown)
        return self

    @property
    def token_limit(self) -> int | None:
        """Most tokens to write; None: as many as the context leaves."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def reasoning_budget(self) -> int | None:
        """Reasoning budget in tokens, from either field."""
        option = self.reasoning.max_tokens if self.reasoning else None
        if option is None and self.thinking_token_budget is not None and self.thinking_token_budget >= 0:
            option = self.thinking_token_budget
        return self.max_reasoning_tokens if option is None else option

    @property
    def truncates(self) -> bool:
        """Whether the oldest turns may be left out."""
        return self.truncation == "auto" or (self.truncation is None and "middle-out" in (self.transforms or ()))

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        options = self.stream_options
        return bool((options and options.include_usage) or (self.usage and self.usage.include))

    @property
    def shows_reasoning(self) -> bool:
        """Whether the reply has the analysis in it."""
        return self.include_reasoning is not False and not (self.reasoning and self.reasoning.exclude)


def parse_chat_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> ChatCompletionRequest:
    """The request in `body`. Raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    return validate(ChatCompletionRequest, expand(parse_object(body)), reading)
