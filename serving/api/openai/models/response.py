"""The replies of GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


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
