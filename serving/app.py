"""The ASGI application: every route and every middleware of the API, on the parts of a process."""

from __future__ import annotations

import time
from dataclasses import replace

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan

import serving
from serving.answering.answerers import Answerers
from serving.answering.fallback import Health
from serving.answering.models import ModelRegistry
from serving.api.admin.adapters import adapters_router
from serving.api.admin.backends import backends_router
from serving.api.admin.models import lifecycle_router
from serving.api.admin.usage import admin_router
from serving.api.anthropic.messages.route import messages_router
from serving.api.context import ApiContext
from serving.api.middleware.authentication import AuthenticationMiddleware
from serving.api.middleware.client_address import ClientAddress
from serving.api.middleware.error_handling import ErrorHandlingMiddleware, routing_error
from serving.api.middleware.permits import PermitMiddleware
from serving.api.middleware.replies import HeadMiddleware, SecurityHeadersMiddleware
from serving.api.middleware.request_ids import RequestIdMiddleware
from serving.api.middleware.request_limits import BodyDeadlineMiddleware, BodyLimitMiddleware, HeaderLimitMiddleware
from serving.api.middleware.request_metrics import RequestMetricsMiddleware
from serving.api.openai.batches.in_process import InProcessClient
from serving.api.openai.batches.route import batches_router
from serving.api.openai.chat.route import chat_router
from serving.api.openai.completions.route import completions_router
from serving.api.openai.conversations.route import conversations_router
from serving.api.openai.files.route import files_router
from serving.api.openai.models.route import models_router
from serving.api.openai.responses.route import responses_router
from serving.api.openai.tokenize.route import tokenize_router
from serving.api.routing import PathRules, Router
from serving.api.service.backends_metrics import BackendMetrics
from serving.api.service.docs import docs_router
from serving.api.service.health import health_router
from serving.api.service.metrics import metrics_router
from serving.api.service.openapi import openapi
from serving.api.service.status_page import status_router
from serving.api.service.tenancy_metrics import TenancyMetrics
from serving.engine.lifecycle.loading_engine import LoadingEngine
from serving.parts import Parts
from serving.telemetry.status import StatusBoard


def create_app(parts: Parts, *, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The whole API as an ASGI application of `parts`, which the caller keeps open as long as requests come.

    A server that runs `lifespan` enters it before the first request and leaves it after the last. Raises
    SettingsError where two models share a name or an alias.
    """
    settings, telemetry, tenancy = parts.settings, parts.telemetry, parts.tenancy
    telemetry.before_each_scrape(TenancyMetrics(tenancy, telemetry.metrics))
    telemetry.before_each_scrape(BackendMetrics(parts.backends, tenancy, telemetry.metrics))
    telemetry.before_each_scrape(parts.model_manager.observe)
    if parts.batches is not None:
        telemetry.before_each_scrape(parts.batches.observe)
    loading = {
        name: LoadingEngine(engine, parts.model_manager, parts.model_manager.of(name))
        for name, engine in parts.engines.items()
        if name in settings.models
    }
    models = ModelRegistry(
        settings.models, loading, int(parts.clock()), parts.backends, settings.variants, parts.adapters
    )
    context = ApiContext(
        models=models,
        answerers=Answerers(
            models,
            tenancy,
            settings.http,
            telemetry.metrics,
            time.monotonic,
            {name: Health(engine, time.monotonic) for name, engine in parts.engines.items()},
            parts.backends,
            parts.cache,
            settings.recovery,
        ),
        http=settings.http,
        clock=parts.clock,
        new_id=parts.new_id,
        variants=settings.variants,
        model_manager=parts.model_manager,
        start_failures=parts.start_failures,
    )
    routers: tuple[Router, ...] = (
        chat_router(context),
        completions_router(context),
        tokenize_router(context),
        responses_router(context, parts.responses_store, parts.seals, settings.responses, parts.response_tasks),
        conversations_router(context, parts.responses_store),
        messages_router(context),
        files_router(parts.batches),
        batches_router(context, parts.batches),
        models_router(context),
        health_router(context, parts.engines, open_to_all=tenancy.authenticator.admin_is_open),
        docs_router(),
        admin_router(context, tenancy),
        backends_router(context, parts.backends),
        adapters_router(parts.adapters),
        lifecycle_router(parts.model_manager),
        metrics_router(parts.metrics_source),
        status_router(
            StatusBoard(parts.metrics_source, list(settings.models), time.monotonic),
            telemetry.recent,
            parts.backends,
            parts.start_failures,
            open_to_all=tenancy.authenticator.admin_is_open,
        ),
    )
    rules = PathRules(rule for router in routers for rule in router.rules)
    app = FastAPI(
        title="gpt-oss-serving",
        description="OpenAI's chat API for gpt-oss models.",
        version=serving.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={HTTPException: routing_error},
        # Outermost first. Every reply has an id, so errors are mapped inside of that.
        middleware=[
            Middleware(RequestIdMiddleware, new_id=parts.new_id),
            Middleware(SecurityHeadersMiddleware),
            Middleware(
                RequestMetricsMiddleware,
                recording=replace(telemetry.recording, sinks=(*telemetry.recording.sinks, *tenancy.sinks)),
                rules=rules,
            ),
            Middleware(HeadMiddleware),
            Middleware(PermitMiddleware),
            Middleware(ErrorHandlingMiddleware),
            Middleware(HeaderLimitMiddleware, limit=settings.http.max_header_bytes),
            Middleware(
                AuthenticationMiddleware,
                tenancy=tenancy,
                address=ClientAddress(settings.http.trusted_proxies),
                rules=rules,
            ),
            Middleware(BodyDeadlineMiddleware, seconds=settings.http.longest_body_s, others=rules.body_times),
            Middleware(BodyLimitMiddleware, limit=settings.http.max_body_bytes, others=rules.body_limits),
        ],
    )
    for router in routers:
        app.include_router(router)
    if parts.batches is not None:
        parts.batches.serve(InProcessClient(app))
    app.openapi = openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents for changing the document
    return app
