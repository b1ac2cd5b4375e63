"""Body of POST /admin/adapters, and replies of the routes below it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from serving.api.wire.base_model import WireModel


class AddAdapter(WireModel):
    """An adapter to load."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="What clients call it.")
    model: str = Field(description="The model that it is over, by its name in the settings.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="The directory with its files, as engines see it, or `demo`."
    )


class AdapterCard(TypedDict):
    """One adapter; `declared` in the settings, or added while serving."""

    object: Literal["adapter"]
    name: str
    model: str
    source: str
    declared: bool


class AdapterList(TypedDict):
    """List of all."""

    object: Literal["list"]
    data: list[AdapterCard]
