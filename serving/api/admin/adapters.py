"""LoRA adapters: GET, POST and DELETE /admin/adapters, for the administrator."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.api.admin.wire.adapters import AdapterCard, AdapterList, AddAdapter
from serving.api.routing import PathRule, Router
from serving.api.wire.body import parse_object, parsed
from serving.api.wire.validation import validate
from serving.engine.adapters.registry import Adapters, KnownAdapter

PATH = "/admin/adapters"


def adapters_router(adapters: Adapters) -> Router:
    """The routes."""
    router = Router(PathRule(PATH, label="admin", audience="administrator"), tags=["operations"])

    @router.post(PATH, summary="Load an adapter, or replace one that was added: name, model, source")
    async def add(request: Request) -> Response:
        asked = await parsed(_parse, await request.body())
        known = await adapters.add(asked.name, asked.model, asked.source)
        return JSONResponse(_card(known), status_code=201)

    # A path, because names may have slashes in them.
    @router.delete(f"{PATH}/{{name:path}}", summary="Forget an adapter that was added")
    async def remove(name: str) -> Response:
        await adapters.remove(name)
        return JSONResponse({"object": "adapter", "name": name, "deleted": True})

    @router.get(PATH, summary="Every adapter, and the model that it is over")
    async def listed() -> Response:
        return JSONResponse(AdapterList(object="list", data=[_card(known) for known in adapters.all().values()]))

    return router


def _parse(body: bytes) -> AddAdapter:
    return validate(AddAdapter, parse_object(body))


def _card(known: KnownAdapter) -> AdapterCard:
    return AdapterCard(
        object="adapter",
        name=known.adapter.name,
        model=known.model,
        source=known.adapter.source,
        declared=known.declared,
    )
