"""The replies of GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from serving.answering.models import ListedModel


class ModelCard(TypedDict):
    """A name that requests may use.

    `root` is there for aliases and variants and says which model they mean, `parent` for adapters: what they are over.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: NotRequired[str]
    parent: NotRequired[str]


class ModelList(TypedDict):
    """All names that requests may use."""

    object: Literal["list"]
    data: list[ModelCard]


def model_card(listed: ListedModel) -> ModelCard:
    """The card of a name that requests may use."""
    card = ModelCard(id=listed.name, object="model", created=listed.created, owned_by=listed.owner)
    if listed.root is not None:
        card["root"] = listed.root
    if listed.parent is not None:
        card["parent"] = listed.parent
    return card
