"""The replies of GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from serving.answering.models import ListedModel


class ModelCard(TypedDict):
    """A name that requests may use, as OpenAI's API and Anthropic's describe it.

    `root` is there for aliases and variants and says which model they mean, `parent` for adapters: what they are over.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Literal["model"]
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    root: NotRequired[str]
    parent: NotRequired[str]


class ModelList(TypedDict):
    """All names that requests may use."""

    object: Literal["list"]
    data: list[ModelCard]
    has_more: Literal[False]
    first_id: str | None
    last_id: str | None


def model_list(cards: list[ModelCard]) -> ModelList:
    """The list of these cards, in one page."""
    first, last = (cards[0]["id"], cards[-1]["id"]) if cards else (None, None)
    return ModelList(object="list", data=cards, has_more=False, first_id=first, last_id=last)


def model_card(listed: ListedModel) -> ModelCard:
    """The card of a name that requests may use."""
    card = ModelCard(
        id=listed.name,
        object="model",
        created=listed.created,
        owned_by=listed.owner,
        type="model",
        display_name=listed.name,
        created_at=datetime.fromtimestamp(listed.created, UTC).isoformat().replace("+00:00", "Z"),
        lifecycle="active",
    )
    if listed.root is not None:
        card["root"] = listed.root
    if listed.parent is not None:
        card["parent"] = listed.parent
    return card
