"""The body of POST /v1/chat/completions.

Source: OpenAI's API reference, with vLLM's sampling extensions. Whatever would change the answer and is not supported
is refused by name; what cannot change it is accepted. Null means absent, everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, StringConstraints, model_validator

from serving.protocol.body import parse_object
from serving.protocol.messages import Message, answers_match_calls
from serving.protocol.tools import Tool, distinct_names
from serving.protocol.validation import validate
from serving.protocol.wire import WireModel, invalid, only, unsupported

VOCABULARY_SIZE = 201_088
"""Rows of gpt-oss's embedding; token ids are below it."""

RequestedEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[Finite, Field(ge=-2, le=2)]


class StreamOptions(WireModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="Send usage in a last chunk without choices.")
    include_obfuscation: bool | None = Field(None, description="Accepted; chunks are never padded.")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _token_ids(value: dict[str, float] | None) -> dict[str, float] | None:
    for key in value or ():
        if not (key.isascii() and key.isdecimal() and len(key) <= 6 and int(key) < VOCABULARY_SIZE):
            raise invalid(
                f"Invalid key in 'logit_bias': expected token ids from 0 to {VOCABULARY_SIZE - 1} as strings."
            )
    return value


def _tool_choice(value: Any) -> Any:
    if value == "required" or isinstance(value, dict):
        raise unsupported("Calls cannot be forced yet; use 'auto' or 'none'.")
    return value


def _response_format(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") in ("json_object", "json_schema"):
        raise unsupported("Answers cannot be held to a schema yet; only the type 'text' is supported.")
    return value


class ResponseFormat(WireModel):
    """The answer's form."""

    type: Literal["text"]


class ChatCompletionRequest(WireModel):
    """One chat request, checked."""

    model: Annotated[str, StringConstraints(min_length=1)] = Field(description="A name or alias from GET /v1/models.")
    messages: Annotated[list[Message], Field(min_length=1), FailFast(), AfterValidator(answers_match_calls)]

    max_completion_tokens: int | None = Field(None, ge=1, description="Most tokens to write, reasoning included.")
    max_tokens: int | None = Field(None, ge=1, description="The older name of max_completion_tokens.")
    temperature: Finite | None = Field(None, ge=0, le=2, description="0 picks the likeliest token; default 1.")
    top_p: Finite | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=VOCABULARY_SIZE, description="0 and -1: all tokens.")
    min_p: Finite | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=128, description="How many choices; default 1.")
    stop: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]] | None,
        Field(max_length=16),
        FailFast(),
        BeforeValidator(_listed, json_schema_input_type=str | list[str] | None),
    ] = Field(None, description="Up to 16 strings that end the answer; not delivered.")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Finite | None = Field(None, gt=0, le=2)
    logit_bias: Annotated[dict[str, Annotated[Finite, Field(ge=-100, le=100)]] | None, AfterValidator(_token_ids)] = (
        Field(None, description="Token ids, as strings, to what is added to their logits.")
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives for each token; needs logprobs.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: RequestedEffort | None = None
    include_reasoning: bool | None = Field(None, description="false: the reply leaves `reasoning` out; default true.")
    tools: Annotated[list[Tool] | None, FailFast(), Field(max_length=128), AfterValidator(distinct_names)] = None
    tool_choice: Annotated[Literal["auto", "none"] | None, BeforeValidator(_tool_choice)] = None

    # Of these only the values that ask for nothing we lack.
    parallel_tool_calls: Annotated[bool | None, only(True, because="Several calls in one answer are allowed.")] = None
    response_format: Annotated[ResponseFormat | None, BeforeValidator(_response_format)] = None
    modalities: Annotated[list[str] | None, only(["text"], because="Only 'text' is.")] = None
    verbosity: Annotated[str | None, only("medium", because="gpt-oss has no verbosity; ask for it in words.")] = None
    audio: None = None
    functions: None = None
    function_call: None = None
    moderation: None = None
    web_search_options: None = None

    # These cannot change the answer: accepted, checked for their type, not used.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    prediction: dict[str, Any] | None = None

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
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' needs 'stream' to be true.", at="stream_options")
        return self

    @property
    def token_limit(self) -> int | None:
        """Most tokens to write; None: whatever the context leaves."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


def parse_chat_request(body: bytes) -> ChatCompletionRequest:
    """The request in `body`. Raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    return validate(ChatCompletionRequest, parse_object(body))
