"""The body of POST /backends/register, and what GET /backends and GET /queue/status reply."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from serving.api.wire.base_model import WireModel
from serving.settings.backends import BackendType


class RegisterBackend(WireModel):
    """A server to add. What is left out is as the settings' `backends.servers` have it."""

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
    """All of them."""

    object: Literal["list"]
    data: list[BackendCard]


class QueueState(TypedDict):
    """One line in this replica: places taken of those there are, requests waiting, and how full the line is, 0 to 1."""

    running: int
    places: int
    waiting: int
    fill: float


class QueueStatus(TypedDict):
    """Every line: in front of our models, and in front of backends that were asked since the start."""

    object: Literal["queue"]
    models: dict[str, QueueState]
    backends: dict[str, QueueState]
