"""The body of POST /v1/completions: OpenAI's older API, for text and token ids without a conversation around them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from serving.api.wire.base_model import invalid
from serving.api.wire.body import parse_object
from serving.api.wire.field_rules import Place
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.sampling_fields import ModelField, SamplingFields, StreamFields
from serving.api.wire.structured_outputs import ConstrainedFields
from serving.api.wire.validation import validate
from serving.harmony.tokenization import VOCABULARY_SIZE
from serving.schemas.json_type import json_type

MOST_CHOICES = 128
"""Prompts times n."""

Prompt = str | list[int]

_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": VOCABULARY_SIZE - 1}, "minItems": 1}
_TEXT = {"type": "string", "minLength": 1}
_PROMPTS_SCHEMA = {
    "title": "Prompt",
    "description": "A text, its token ids, or a list of either.",
    "anyOf": [
        _TEXT,
        _TOKENS,
        {"type": "array", "items": _TEXT, "minItems": 1},
        {"type": "array", "items": _TOKENS, "minItems": 1},
    ],
}


def _prompts(value: Any) -> list[Prompt]:
    """A list of prompts, whichever of OpenAI's four forms they came in."""
    if isinstance(value, str) or (isinstance(value, list) and value and _is_integer(value[0])):
        return [_prompt(value, "")]
    if not isinstance(value, list):
        raise invalid(f"Invalid type for 'prompt': expected {_FORMS}, but got {json_type(value)}.", code="invalid_type")
    if not value:
        raise invalid("Invalid 'prompt': the array is empty.", code="empty_array")
    if len(value) > MOST_CHOICES:
        raise invalid(f"Invalid 'prompt': {len(value)} prompts, where at most {MOST_CHOICES} are allowed.")
    return [_prompt(prompt, f"[{i}]") for i, prompt in enumerate(value)]


_FORMS = "a string, an array of token ids, or an array of either"


def _prompt(value: Any, at: str) -> Prompt:
    if isinstance(value, str):
        if not value:
            raise invalid(f"Invalid 'prompt{at}': the string is empty.", at=at, code="empty_string")
        return value
    if not isinstance(value, list):
        raise invalid(
            f"Invalid type for 'prompt{at}': expected {_FORMS}, but got {json_type(value)}.", at=at, code="invalid_type"
        )
    if not value:
        raise invalid(f"Invalid 'prompt{at}': the array is empty.", at=at, code="empty_array")
    for i, token in enumerate(value):
        if not _is_integer(token) or not 0 <= token < VOCABULARY_SIZE:
            raise invalid(
                f"Invalid 'prompt{at}[{i}]': expected a token id from 0 to {VOCABULARY_SIZE - 1}.", at=f"{at}[{i}]"
            )
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class CompletionRequest(StreamFields, SamplingFields, ConstrainedFields, ModelField):
    """One completions request, checked."""

    places: ClassVar[tuple[Place, ...]] = ("generation", "completions")
    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts), WithJsonSchema(_PROMPTS_SCHEMA)]
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to write; default 16.")
    best_of: int | None = Field(None, ge=1, description="Accepted where it equals n.")
    echo: bool | None = Field(None, description="Begin the text with the prompt; not with logprobs.")
    logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives for each token.")
    skip_special_tokens: bool | None = Field(
        None, description="false: special tokens that the model writes are spelled in the text; default true."
    )
    allow_special_tokens: bool | None = Field(
        None, description="true: special tokens spelled in a text prompt are meant; default false, they are text."
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> CompletionRequest:
        if self.best_of not in (None, self.n or 1):
            raise invalid("'best_of' is only supported where it equals 'n'; leave it out.", at="best_of")
        if len(self.prompt) * (self.n or 1) > MOST_CHOICES:
            raise invalid(f"'n' times the number of prompts is more than {MOST_CHOICES}.", at="n")
        if self.echo and self.logprobs is not None:
            raise invalid("'echo' cannot go with 'logprobs': those of the prompt are not known.", at="echo")
        if self.answer_format is not None and (self.min_tokens or self.ignore_eos):
            field = "ignore_eos" if self.ignore_eos else "min_tokens"
            raise invalid(f"'{field}' cannot go with an answer of a certain form.", at=field)
        self.check_stream_options()
        return self


def parse_completion_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> CompletionRequest:
    """The request in `body`. Raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    return validate(CompletionRequest, expand(parse_object(body)), reading)
