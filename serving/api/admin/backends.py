"""Backends and admission queues: /backends and GET /queue/status, for the administrator."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.api.admin.wire.backends import BackendCard, BackendList, QueueState, QueueStatus, RegisterBackend
from serving.api.context import ApiContext
from serving.api.routing import PathRule, Router
from serving.api.wire.body import parse_object, parsed
from serving.api.wire.validation import explain, validate
from serving.backends.backend import Backend
from serving.backends.registry import Backends
from serving.errors import InvalidValueError
from serving.settings.backends import BackendSettings, checked_name
from serving.tenancy.flow_control.admission import AdmissionQueue

PATH = "/backends"


def backends_router(context: ApiContext, backends: Backends) -> Router:
    """The routes."""
    router = Router(
        PathRule(PATH, label="admin", audience="administrator"),
        PathRule("/queue", label="admin", audience="administrator"),
        tags=["operations"],
    )

    @router.post(f"{PATH}/register", summary="Add a server, or replace one that was added: name, url, type, models")
    async def register(request: Request) -> Response:
        asked = await parsed(_parse, await request.body())
        backend = await backends.register(asked.name, _settings(asked))
        return JSONResponse(card(backend), status_code=201)

    @router.delete(f"{PATH}/{{name}}", summary="Forget a server that was added")
    async def remove(name: str) -> Response:
        await backends.remove(name)
        return JSONResponse({"object": "backend", "name": name, "deleted": True})

    @router.get(PATH, summary="Every server, whether it can be asked, and how much it does")
    async def listed() -> Response:
        return JSONResponse(BackendList(object="list", data=[card(backend) for backend in backends.all()]))

    @router.get("/queue/status", summary="The admission queues of this ingress replica")
    async def queues() -> Response:
        models, others = context.answerers.queues()
        return JSONResponse(QueueStatus(object="queue", models=_states(models), backends=_states(others)))

    return router


def _parse(body: bytes) -> RegisterBackend:
    return validate(RegisterBackend, parse_object(body))


def _settings(asked: RegisterBackend) -> BackendSettings:
    try:
        checked_name(asked.name)
    except ValueError as error:
        raise InvalidValueError(f"Invalid value for 'name': {error}.", param="name") from error
    try:
        return BackendSettings.model_validate(asked.model_dump(exclude={"name"}, exclude_none=True))
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0]) from error


def card(backend: Backend) -> BackendCard:
    """Reply of a backend as it is now, without its key."""
    return BackendCard(
        object="backend",
        name=backend.name,
        type=backend.type,
        url=backend.url,
        models=list(backend.names),
        external=backend.external,
        api_key_env=backend.settings.api_key_env,
        declared=backend.declared,
        ready=backend.ready,
        breaker=backend.breaker.state,
        requests=backend.outstanding,
        problem=backend.problem,
    )


def _states(queues: Mapping[str, AdmissionQueue]) -> dict[str, QueueState]:
    return {
        name: QueueState(running=queue.in_use, places=queue.slots, waiting=queue.waiting, fill=round(queue.fill, 3))
        for name, queue in queues.items()
    }
