"""Bodies and replies of the conversation routes, as OpenAI shapes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from serving.api.openai.responses.items import InputItem
from serving.api.openai.responses.request import InputItems, Metadata
from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.body import parse_object
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.validation import validate

_MOST_ITEMS = 20


def _few(items: list[InputItem] | None) -> list[InputItem] | None:
    if items is not None and len(items) > _MOST_ITEMS:
        raise invalid(f"At most {_MOST_ITEMS} items may be added at a time.", code="array_above_max_length")
    return items


class ConversationRequest(WireModel):
    """Body of POST /v1/conversations."""

    items: Annotated[InputItems | None, AfterValidator(_few)] = None
    metadata: Metadata | None = None


class ConversationChange(WireModel):
    """Body of POST /v1/conversations/{id}."""

    metadata: Metadata | None


class ItemsRequest(WireModel):
    """Body of POST /v1/conversations/{id}/items."""

    items: Annotated[InputItems, AfterValidator(_few)]
    include: list[str] | None = Field(None, description="Accepted: items have all they have.")


class Conversation(TypedDict):
    """A conversation without its items."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class DeletedConversation(TypedDict):
    """The reply of DELETE /v1/conversations/{id}."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]


def parse_conversation(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> ConversationRequest:
    """The request in `body`, which may be empty. Raises MalformedBodyError, InvalidValueError."""
    fields: dict[str, Any] = parse_object(body) if body.strip() else {}
    return validate(ConversationRequest, fields, reading)


def parse_change(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> ConversationChange:
    """The request in `body`. Raises likewise."""
    return validate(ConversationChange, parse_object(body), reading)


def parse_items(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> ItemsRequest:
    """The request in `body`. Raises likewise."""
    return validate(ItemsRequest, parse_object(body), reading)
