"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from starlette.requests import Request

from serving.answering.request_context import context_of
from serving.api.context import ApiContext
from serving.api.openai.models.response import ModelCard, ModelList, model_card, model_list
from serving.api.routing import PathRule, Router

PATH = "/v1/models"


def models_router(context: ApiContext) -> Router:
    """The routes; neither asks an engine, so both answer while engines start."""
    router = Router(PathRule(PATH, label="models"), tags=["models"])

    @router.get(PATH, summary="The names that requests may use")
    async def list_models(request: Request) -> ModelList:
        return model_list([model_card(each) for each in context.answerers.listed(context_of(request.scope))])

    # A path, because hub ids have slashes in them.
    @router.get(f"{PATH}/{{model:path}}", summary="One of them")
    async def retrieve_model(request: Request, model: str) -> ModelCard:
        context.answerers.find(context_of(request.scope), model)
        return model_card(context.models.listed(model))

    return router
