"""Health, readiness and version of the process: GET /health, /ready and /version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from serving.answering.models import ServedModel
from serving.api.context import ApiContext
from serving.api.routing import PathRule, Router
from serving.engine.base import Owned
from serving.engine.start_failure import StartFailure
from serving.errors import ApiError, EngineNotReadyError
from serving.telemetry.build import Versions, installed_versions

_CHECK_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 5.0


class Queue(TypedDict):
    """Requests of all models in this process: sequences in a slot of an engine or a backend, and waiting for one."""

    running: int
    waiting: int


class Health(TypedDict):
    """Reply of a process that answers."""

    status: str
    queue: Queue


def health_router(context: ApiContext, engines: Mapping[str, Owned], *, open_to_all: bool) -> Router:
    """The routes. `open_to_all`: messages and paths are told to everybody, too."""
    router = Router(
        PathRule("/health", label=None, audience="everybody"),
        PathRule("/ready", label=None, audience="everybody"),
        PathRule("/version", label=None),
        tags=["health"],
    )

    @router.get("/health", summary="Whether this process answers, and how much it has to do")
    async def health() -> Health:
        ours, others = context.answerers.queues()
        lines = (*ours.values(), *others.values())
        queue = Queue(running=sum(line.in_use for line in lines), waiting=sum(line.waiting for line in lines))
        return Health(status="ok", queue=queue)

    @router.get("/ready", summary="Whether every model's engines answer; 503 while one does not that should")
    async def ready() -> Response:
        models = context.models.models()
        failures = await asyncio.gather(*(_failure(engines[model.name]) for model in models))
        states: dict[str, dict[str, Any]] = {}
        failed = await _failed_starts(context, models, failures)
        for number, (model, failure) in enumerate(zip(models, failures, strict=True)):
            lifecycle = context.model_manager.of(model.name)
            if failure is None:
                states[model.name] = {"status": "ready"}
            elif lifecycle.unloaded_on_purpose:
                states[model.name] = {"status": lifecycle.state}
                failures[number] = None
            else:
                states[model.name] = {"status": failure.code, "message": failure.message}
                if (last := failed.get(model.name)) is not None:
                    states[model.name]["start_failure"] = asdict(last) if open_to_all else _outline(last)
        if not any(failures):
            return JSONResponse({"status": "ready", "models": states})
        waiting = ", ".join(model.name for model, failure in zip(models, failures, strict=True) if failure)
        error = EngineNotReadyError(f"Not ready: {waiting}.", retry_after_s=_RETRY_AFTER_S)
        body = {**error.body(), "status": "not_ready", "models": states}
        return JSONResponse(body, status_code=error.status, headers=error.headers())

    @router.get("/version", summary="What runs here")
    async def versions() -> Versions:
        return installed_versions()

    return router


def _outline(failure: StartFailure) -> dict[str, Any]:
    return {"reason": failure.reason, "fix": failure.fix, "in_a_row": failure.in_a_row}


async def _failed_starts(
    context: ApiContext, models: Sequence[ServedModel], failures: Sequence[ApiError | None]
) -> dict[str, StartFailure]:
    """Reason of the last failed start of each model that does not answer."""
    names = [model.name for model, failure in zip(models, failures, strict=True) if failure is not None]
    known = await context.start_failures.read(names) if names else {}
    return {name: each.last for name, each in known.items() if each.last is not None}


async def _failure(engine: Owned) -> ApiError | None:
    """Reason why the engine cannot answer now; None when it can."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await engine.check_health()
    except ApiError as error:
        return error
    except TimeoutError:
        return EngineNotReadyError(f"The engine did not answer within {_CHECK_TIMEOUT_S:g} s.")
    return None
