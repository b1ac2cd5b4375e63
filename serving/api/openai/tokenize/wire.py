"""Bodies and replies of POST /tokenize and /detokenize, as vLLM shapes them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from serving.api.openai.chat.conversation_fields import ConversationFields
from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.body import parse_object
from serving.api.wire.field_rules import Place
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.validation import validate
from serving.harmony.tokenization import VOCABULARY_SIZE


class OptionalModel(WireModel):
    """Model of a request, which may be left out on a server with a single model."""

    model: Annotated[str, StringConstraints(min_length=1)] | None = None


class TokenizeTextRequest(OptionalModel):
    """A text, and how it becomes tokens."""

    places: ClassVar[tuple[Place, ...]] = ("tokenize",)
    prompt: str
    allow_special_tokens: bool | None = Field(
        None, description="true: special tokens spelled in the text are meant; default false, they are text."
    )
    return_token_strs: bool | None = Field(None, description="Add each token's text.")


class TokenizeChatRequest(ConversationFields, OptionalModel):
    """A conversation as chat takes it; its tokens are those of the prompt that chat would make of it."""

    places: ClassVar[tuple[Place, ...]] = ("tokenize",)
    return_token_strs: bool | None = Field(None, description="Add each token's text.")


def _known_tokens(tokens: list[int]) -> list[int]:
    for i, token in enumerate(tokens):
        if not 0 <= token < VOCABULARY_SIZE:
            raise invalid(f"Invalid 'tokens[{i}]': expected a token id from 0 to {VOCABULARY_SIZE - 1}.", at=f"[{i}]")
    return tokens


class DetokenizeRequest(OptionalModel):
    """Token ids of whatever kind."""

    tokens: Annotated[list[int], AfterValidator(_known_tokens)]


class Tokens(TypedDict):
    """`token_strs` has U+FFFD for tokens that are not whole characters."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: NotRequired[list[str]]


class Detokenized(TypedDict):
    """The tokens' text, special tokens spelled."""

    prompt: str


def parse_tokenize_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> TokenizeTextRequest | TokenizeChatRequest:
    """The request in `body`: of chat where it has messages. Raises as parse_object and validate do."""
    data: dict[str, Any] = parse_object(body)
    if "messages" in data:
        return validate(TokenizeChatRequest, expand(data), reading)
    return validate(TokenizeTextRequest, data, reading)


def parse_detokenize_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> DetokenizeRequest:
    """The request in `body`. Raises as parse_object and validate do."""
    return validate(DetokenizeRequest, expand(parse_object(body)), reading)
