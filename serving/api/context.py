"""Context of the API: the parts that routes share, made once by create_app and passed to each router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from serving.answering.answerers import Answerers
from serving.answering.models import ModelRegistry
from serving.answering.request_context import context_of
from serving.engine.lifecycle.manager import ModelManager
from serving.engine.start_failure import StartFailures
from serving.settings.http import HttpSettings
from serving.settings.presets import PresetSettings


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Parts that routes share.

    `clock` gives seconds since the epoch; `new_id` a fresh token of letters and digits. `answerers` find models and
    answer requests within their teams' policies; `variants` are the presets by name. `model_manager` has the models'
    lifecycles, `start_failures` the reasons of engines that did not start.
    """

    models: ModelRegistry
    answerers: Answerers
    http: HttpSettings
    clock: Callable[[], float]
    new_id: Callable[[], str]
    model_manager: ModelManager
    start_failures: StartFailures
    variants: Mapping[str, PresetSettings] = field(default_factory=dict)


def request_id(request: Request) -> str:
    """Id that RequestIdMiddleware gave the request."""
    return context_of(request.scope).request_id
