"""Body of POST /backends/register, and replies of GET /backends and GET /queue/status."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from serving.api.wire.base_model import WireModel
from serving.settings.backends import BackendType


class RegisterBackend(WireModel):
    """A server to add; fields that are left out have the defaults of `backends.servers` in the settings."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    url: str | None = Field(None, description="Base URL; unset: where its type usually is.")
    models: list[str] | dict[str, str] | None = Field(
        None, description="Names clients use, as a list or with the server's own; unset: all it lists."
    )
    api_key_env: str | None = Field(None, description="The environment variable with its key; never the key itself.")
    type: BackendType | None = Field(None, description="Its dialect; unset: the name, where that is a type.")
    external: bool | None = Field(None, description="Whether prompts leave the house; unset: unless on this machine.")
    weight: float | None = Field(None, gt=0, le=1000, description="How much of the work it gets; default 1.")


class BackendCard(TypedDict):
    """One backend now. `requests` are under way from this replica; `problem` is what was wrong at the last look."""

    object: Literal["backend"]
    name: str
    type: str
    url: str
    models: list[str]
    external: bool
    api_key_env: str | None
    declared: bool
    ready: bool
    breaker: str
    requests: int
    problem: str | None


class BackendList(TypedDict):
    """List of all."""

    object: Literal["list"]
    data: list[BackendCard]


class QueueState(TypedDict):
    """An admission queue of this replica: slots taken and in all, requests waiting, and the queue's fill, 0 to 1."""

    running: int
    places: int
    waiting: int
    fill: float


class QueueStatus(TypedDict):
    """Every admission queue: one for each model, and one for each group of backends that was asked since the start."""

    object: Literal["queue"]
    models: dict[str, QueueState]
    backends: dict[str, QueueState]
