"""The HTTP side put together; the only place where its parts meet."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import serving
from serving.answering.access import Access
from serving.answering.models import ModelRegistry
from serving.api.admin.adapters import adapters_router
from serving.api.admin.backends import backends_router
from serving.api.admin.models import model_life_router
from serving.api.admin.usage import admin_router
from serving.api.anthropic.messages.route import messages_router
from serving.api.context import ApiContext
from serving.api.middleware.authentication import Authentication
from serving.api.middleware.body_deadline import BodyDeadline
from serving.api.middleware.body_limit import BodyLimit
from serving.api.middleware.client_address import ClientAddress
from serving.api.middleware.error_handling import ErrorHandling, routing_error
from serving.api.middleware.head import HeadAsGet
from serving.api.middleware.header_limit import HeaderLimit
from serving.api.middleware.permits import Tickets
from serving.api.middleware.request_ids import RequestIds
from serving.api.middleware.request_metrics import RequestMetrics
from serving.api.middleware.security_headers import SecurityHeaders
from serving.api.openai.chat.route import chat_router
from serving.api.openai.completions.route import completions_router
from serving.api.openai.models.route import models_router
from serving.api.openai.responses.route import responses_router
from serving.api.openai.tokenize.route import tokenize_router
from serving.api.service.backends_metrics import BackendMetrics
from serving.api.service.docs import docs_router
from serving.api.service.health import health_router
from serving.api.service.metrics import metrics_router
from serving.api.service.openapi import openapi
from serving.api.service.status_page import status_router
from serving.api.service.tenancy_metrics import TenancyMetrics
from serving.backends.registry import Backends
from serving.cache.answers import AnswerCache
from serving.engine.adapters.registry import Adapters
from serving.engine.base import AdapterHost, Engine, Sleeper
from serving.engine.lifecycle.in_process import EngineReplicas
from serving.engine.lifecycle.loading_engine import LivingEngine
from serving.engine.lifecycle.manager import Lives
from serving.engine.lifecycle.store import MemoryLifeStore
from serving.engine.start_failure import NoStartFailures, StartFailures
from serving.settings.tree import Settings
from serving.store.base import Store
from serving.store.from_settings import limits
from serving.store.memory import MemoryStore
from serving.telemetry.exposition import MetricsSource
from serving.telemetry.process import ProcessTelemetry
from serving.telemetry.status import StatusBoard
from serving.tenancy.tenancy import Tenancy


def _new_id() -> str:
    return uuid.uuid4().hex


def create_app(
    settings: Settings,
    engines: Mapping[str, Engine],
    *,
    clock: Callable[[], float] = time.time,
    new_request_id: Callable[[], str] = _new_id,
    telemetry: ProcessTelemetry | None = None,
    metrics_source: MetricsSource | None = None,
    tenancy: Tenancy | None = None,
    responses_store: Store | None = None,
    backends: Backends | None = None,
    cache: AnswerCache | None = None,
    adapters: Adapters | None = None,
    lives: Lives | None = None,
    start_failures: StartFailures | None = None,
) -> FastAPI:
    """The whole API as an ASGI application.

    `engines` has one for each of `settings.models`, by name; the caller starts and closes them. `clock` gives
    seconds since the epoch (UTC); `new_request_id` a token of letters and digits that never comes twice. What
    happens is counted in `telemetry`; GET /metrics shows what `metrics_source` collects, by default that alone.
    Responses are kept in `responses_store`, which the caller closes; by default in this process's memory.
    `backends` and `adapters` are started and closed by the caller too; by default those of the settings, and what is
    added is forgotten with the process. `lives`, which the caller closes, says which models are in memory; by default
    this process alone does, and starts and closes `engines` as is asked for. Answers are kept in `cache`, which the
    caller closes; by default, where settings ask for one, in this process's memory. `start_failures` says why engines
    did not start, where others start them. Raises SettingsError where models and engines do not match.
    """
    if tenancy is None:
        tenancy = Tenancy(settings, clock=clock, monotonic=time.monotonic)
    start_failures = start_failures or NoStartFailures()
    if telemetry is None:
        telemetry = ProcessTelemetry(
            settings,
            engines,
            labels={"deployment": "ingress", "replica": _new_id()[:8]},
            clock=clock,
            start_failures=start_failures,
        )
    telemetry.before_each_scrape(TenancyMetrics(tenancy, telemetry.metrics))
    if backends is None:
        backends = Backends(settings.backends, clock=time.monotonic)
    telemetry.before_each_scrape(BackendMetrics(backends, tenancy, telemetry.metrics))
    if cache is None and settings.cache.backend != "off":
        store = MemoryStore(limits(settings.cache))
        cache = AnswerCache(settings.cache, store, clock=clock, on_failure=telemetry.metrics.cache_failed)
    if adapters is None:
        hosts = {name: engine for name, engine in engines.items() if isinstance(engine, AdapterHost)}
        adapters = Adapters(settings, hosts, new_version=_new_id)
    if lives is None:
        lives = Lives(
            settings,
            {name: engine for name, engine in engines.items() if isinstance(engine, Sleeper)},
            MemoryLifeStore(),
            EngineReplicas(engines),
            telemetry.metrics,
            clock=clock,
            monotonic=time.monotonic,
        )
    lives.attend(lambda model: tenancy.admission(model).in_use > 0)
    telemetry.before_each_scrape(lives.observe)
    living = {
        name: LivingEngine(engine, lives, lives.of(name)) for name, engine in engines.items() if name in settings.models
    }
    models = ModelRegistry(settings.models, living, int(clock()), backends, settings.variants, adapters)
    context = ApiContext(
        models=models,
        access=Access(models, tenancy, settings.http, telemetry.recording.metrics, time.monotonic, backends, cache),
        http=settings.http,
        clock=clock,
        new_id=new_request_id,
        variants=settings.variants,
        lives=lives,
        start_failures=start_failures,
    )
    app = FastAPI(
        title="gpt-oss-serving",
        description="OpenAI's chat API for gpt-oss models.",
        version=serving.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: routing_error},
        # Outermost first. Every reply has an id, so errors are mapped inside of that.
        middleware=[
            Middleware(RequestIds, new_id=new_request_id),
            Middleware(SecurityHeaders),
            Middleware(
                RequestMetrics,
                recording=replace(telemetry.recording, sinks=(*telemetry.recording.sinks, *tenancy.sinks)),
            ),
            Middleware(HeadAsGet),
            Middleware(Tickets),
            Middleware(ErrorHandling),
            Middleware(HeaderLimit, limit=settings.http.max_header_bytes),
            Middleware(Authentication, tenancy=tenancy, address=ClientAddress(settings.http.trusted_proxies)),
            Middleware(BodyDeadline, seconds=settings.http.longest_body_s),
            Middleware(BodyLimit, limit=settings.http.max_body_bytes),
        ],
    )
    source = metrics_source or telemetry
    routers = (
        chat_router(context),
        completions_router(context),
        tokenize_router(context),
        responses_router(context, responses_store or MemoryStore(limits(settings.responses))),
        messages_router(context),
        models_router(context),
        health_router(context, open_to_all=tenancy.authenticator.admin_is_open),
        docs_router(),
        admin_router(context, tenancy),
        backends_router(context, backends),
        adapters_router(adapters),
        model_life_router(lives),
        metrics_router(source),
        status_router(
            StatusBoard(source, list(settings.models), time.monotonic),
            telemetry.recent,
            backends,
            start_failures,
            open_to_all=tenancy.authenticator.admin_is_open,
        ),
    )
    for router in routers:
        app.include_router(router)
    app.openapi = openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents for changing the document
    return app
