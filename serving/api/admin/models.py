"""Model lifecycles: GET /admin/models and POST /admin/models/NAME/CHANGE, for the administrator."""

from __future__ import annotations

import asyncio
from typing import get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.answering.request_context import context_of
from serving.api.admin.wire.models import ModelLifecycleCard, ModelLifecycleList, ReplicaCounts, ReplicaReport
from serving.api.routing import PathRule, Router
from serving.engine.lifecycle.manager import Change, ModelManager
from serving.engine.lifecycle.model import ModelLifecycle
from serving.errors import InvalidValueError, NotFoundError

PATH = "/admin/models"


def lifecycle_router(manager: ModelManager) -> Router:
    """The routes."""
    router = Router(PathRule(PATH, label="admin", audience="administrator"), tags=["operations"])

    @router.get(PATH, summary="Every model: whether it is in memory, its replicas, what they take")
    async def listed() -> Response:
        await manager.read()
        cards = await asyncio.gather(*(_card(manager, lifecycle) for lifecycle in manager.all()))
        return JSONResponse(ModelLifecycleList(object="list", data=list(cards)))

    # A path, because names may have slashes in them.
    @router.post(
        f"{PATH}/{{name:path}}/{{change}}",
        summary="load, unload, sleep or wake a model; ?wait=true replies when it is done",
        responses={200: {"description": "It is so"}, 202: {"description": "It is under way"}},
    )
    async def change(request: Request, name: str, change: str) -> Response:
        asked = _change(change)
        wait = _wait(request.query_params.get("wait", "false"))
        context_of(request.scope).recording.model = manager.of(name).name  # for the audit log
        lifecycle = await manager.change(name, asked)
        done = await manager.reached(lifecycle, asked, wait=wait)
        await lifecycle.read()
        return JSONResponse(await _card(manager, lifecycle), status_code=200 if done else 202)

    return router


async def _card(manager: ModelManager, lifecycle: ModelLifecycle) -> ModelLifecycleCard:
    used = lifecycle.used_at
    return ModelLifecycleCard(
        object="model.life",
        name=lifecycle.name,
        state=lifecycle.state,
        cause=lifecycle.wanted.cause,
        since=int(lifecycle.wanted.since),
        last_used=None if used is None else int(used),
        held=lifecycle.held,
        replicas=ReplicaCounts(running=lifecycle.running, wanted=lifecycle.target),
        reports=[
            ReplicaReport(
                asleep=report.asleep,
                memory_bytes=report.memory_bytes,
                device_memory_bytes=report.device_memory_bytes,
            )
            for report in await manager.reports(lifecycle.name)
        ],
    )


def _change(text: str) -> Change:
    for change in get_args(Change):
        if text == change:
            known: Change = change
            return known
    raise NotFoundError(f"There is no /admin/models/NAME/{text[:64]}; there are {', '.join(get_args(Change))}.")


def _wait(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidValueError("'wait' should be true or false.", param="wait")
    return text == "true"
