"""What the routes share; made once by create_app and passed to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from serving.api.registry import ModelRegistry
from serving.settings import HttpSettings


@dataclass(frozen=True, slots=True)
class ApiContext:
    """`clock` gives seconds since the epoch; `new_id` a fresh token of letters and digits."""

    models: ModelRegistry
    http: HttpSettings
    clock: Callable[[], float]
    new_id: Callable[[], str]


def request_id(request: Request) -> str:
    """The id that RequestIds gave the request."""
    return str(request.scope["state"]["request_id"])
