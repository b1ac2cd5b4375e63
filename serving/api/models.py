"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from fastapi import APIRouter

from serving.api.context import ApiContext
from serving.protocol.models import ModelCard, ModelList


def models_router(context: ApiContext) -> APIRouter:
    """The routes; neither asks an engine, so both answer while engines start."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", summary="The names that requests may use")
    async def list_models() -> ModelList:
        return ModelList(object="list", data=context.models.cards())

    # A path, because hub ids have slashes in them.
    @router.get("/{model:path}", summary="One of them")
    async def retrieve_model(model: str) -> ModelCard:
        return context.models.card(model)

    return router
