"""What the routes share; made once by create_app and passed to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from serving.answering.access import Access
from serving.answering.models import ModelRegistry
from serving.engine.lifecycle.manager import Lives
from serving.engine.start_failure import StartFailures
from serving.generation.constraint_check import ConstraintChecks
from serving.settings.http import HttpSettings
from serving.settings.presets import VariantSettings


@dataclass(frozen=True, slots=True)
class ApiContext:
    """`clock` gives seconds since the epoch; `new_id` a fresh token of letters and digits.

    `access` says what teams may do, `variants` what the names of presets stand for. `constraints` knows the schemas
    and grammars that engines have taken. `lives` says which models are not in memory because nobody wants them to be,
    `start_failures` why engines did not start.
    """

    models: ModelRegistry
    access: Access
    http: HttpSettings
    clock: Callable[[], float]
    new_id: Callable[[], str]
    lives: Lives
    start_failures: StartFailures
    variants: Mapping[str, VariantSettings] = field(default_factory=dict)
    constraints: ConstraintChecks = field(default_factory=ConstraintChecks)


def request_id(request: Request) -> str:
    """The id that RequestIdMiddleware gave the request."""
    return str(request.scope["state"]["request_id"])
