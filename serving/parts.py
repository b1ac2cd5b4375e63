"""The composition root: the parts of an HTTP process, built and closed by one context manager."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.backends.registry import Backends
from serving.background import Background
from serving.batches.service import BatchService, open_batches
from serving.cache.answers import AnswerCache
from serving.engine.adapters.registry import Adapters
from serving.engine.base import AdapterHost, OwnedEngine, Sleeper
from serving.engine.lifecycle.in_process import EngineReplicas
from serving.engine.lifecycle.manager import ModelManager
from serving.engine.lifecycle.model import Observer
from serving.engine.lifecycle.store import MemoryLifecycleStore
from serving.engine.start_failure import NoStartFailures, StartFailures
from serving.errors import SettingsError
from serving.sealing import Seals, random_secret, secret_of
from serving.settings.tree import Settings
from serving.store.base import Store
from serving.store.from_settings import open_own_store
from serving.store.registrations import MemoryRegistrations, Registrations
from serving.telemetry.exposition import MetricsSource
from serving.telemetry.process import ProcessTelemetry
from serving.tenancy.flow_control.fleet import Fleet
from serving.tenancy.rate_limits.base import LimitStore
from serving.tenancy.tenancy import Tenancy, make_limit_store
from serving.tenancy.usage.base import UsageStore
from serving.tenancy.usage.from_settings import make_usage_store


def fresh_id() -> str:
    """A token of letters and digits that never comes twice."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The pieces that differ between a single process and a cluster; none of them is connected to anything yet.

    `clock` gives seconds since the epoch (UTC), `new_id` a token of letters and digits that never comes twice.
    `labels` are this process's own on a scrape. GET /metrics shows what `metrics_source` collects; None: what this
    process has counted. Without a `fleet`, the settings' fewest replicas say how much load there is capacity for.
    `secret` gives 32 bytes that all processes of the service share until it restarts.
    """

    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = fresh_id
    labels: Mapping[str, str]
    metrics_source: MetricsSource | None
    fleet: Fleet | None
    limit_store: LimitStore
    usage_store: UsageStore
    responses_store: Store
    answer_store: Store
    backend_registrations: Registrations
    adapter_registrations: Registrations
    adapter_hosts: Mapping[str, AdapterHost]
    start_failures: StartFailures
    model_manager: Callable[[Settings, Observer], ModelManager]
    secret: Callable[[], Awaitable[bytes]]

    @classmethod
    def in_process(
        cls, settings: Settings, engines: Mapping[str, OwnedEngine], *, clock: Callable[[], float] = time.time
    ) -> Platform:
        """The platform of a process that is the whole service.

        What is added while serving is forgotten with the process, and `engines`, which the caller has started, are
        closed and started again as models are unloaded and loaded. Raises SettingsError where the settings ask for a
        store whose package is not installed.
        """
        sleepers = {name: engine for name, engine in engines.items() if isinstance(engine, Sleeper)}

        def model_manager(settings: Settings, observer: Observer) -> ModelManager:
            replicas = EngineReplicas(engines)
            return ModelManager(
                settings, sleepers, MemoryLifecycleStore(), replicas, observer, clock=clock, monotonic=time.monotonic
            )

        return cls(
            clock=clock,
            labels={"deployment": "ingress", "replica": fresh_id()[:8]},
            metrics_source=None,
            fleet=None,
            limit_store=make_limit_store(settings, clock),
            usage_store=make_usage_store(settings),
            responses_store=open_own_store(settings, "responses"),
            answer_store=open_own_store(settings, "cache"),
            backend_registrations=MemoryRegistrations(),
            adapter_registrations=MemoryRegistrations(),
            adapter_hosts={name: engine for name, engine in engines.items() if isinstance(engine, AdapterHost)},
            start_failures=NoStartFailures(),
            model_manager=model_manager,
            secret=random_secret(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of an HTTP process, started; what create_app() makes an application of.

    `engines` has one for each of `settings.models`, by name; the caller starts and closes them.
    """

    settings: Settings
    engines: Mapping[str, OwnedEngine]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    telemetry: ProcessTelemetry
    metrics_source: MetricsSource
    tenancy: Tenancy
    responses_store: Store
    response_tasks: Background
    seals: Seals
    backends: Backends
    cache: AnswerCache | None
    adapters: Adapters
    model_manager: ModelManager
    start_failures: StartFailures
    batches: BatchService | None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: Settings, engines: Mapping[str, OwnedEngine], platform: Platform
    ) -> AsyncIterator[Parts]:
        """Build and start the parts on `platform`, and close them, the last one first; also where building fails.

        Raises SettingsError for a model without an engine, and for a teams file or an admin key's file that is wrong.
        """
        if missing := [name for name in settings.models if name not in engines]:
            raise SettingsError([(f"models.{name}", "no engine was given for this model") for name in missing])
        clock = platform.clock
        async with contextlib.AsyncExitStack() as stack:
            telemetry = ProcessTelemetry(
                settings, engines, labels=platform.labels, clock=clock, start_failures=platform.start_failures
            )
            stack.push_async_callback(telemetry.close)
            tenancy = Tenancy(
                settings,
                clock=clock,
                monotonic=time.monotonic,
                limit_store=platform.limit_store,
                usage_store=platform.usage_store,
                fleet=platform.fleet,
            )
            stack.push_async_callback(tenancy.close)
            tenancy.start()
            stack.push_async_callback(platform.responses_store.close)
            backends = Backends(settings.backends, clock=time.monotonic, registrations=platform.backend_registrations)
            stack.push_async_callback(backends.close)
            await backends.start()
            cache: AnswerCache | None = None
            if settings.cache.backend != "off":
                cache = AnswerCache(
                    settings.cache, platform.answer_store, clock=clock, on_failure=telemetry.metrics.cache_failed
                )
                stack.push_async_callback(cache.close)
            adapters = Adapters(
                settings,
                platform.adapter_hosts,
                new_version=platform.new_id,
                registrations=platform.adapter_registrations,
            )
            stack.push_async_callback(adapters.close)
            await adapters.start()
            manager = platform.model_manager(settings, telemetry.metrics)
            manager.watch(lambda model: tenancy.admission(model).in_use > 0)
            stack.push_async_callback(manager.close)
            await manager.start()
            batches = open_batches(
                settings,
                tenancy,
                platform.responses_store,
                telemetry.metrics,
                clock=clock,
                new_id=platform.new_id,
            )
            if batches is not None:
                stack.push_async_callback(batches.close)
                batches.start()
            response_tasks = Background()
            # Closed first: their ends are stored, and their engines are told.
            stack.push_async_callback(response_tasks.close)
            yield cls(
                settings=settings,
                engines=engines,
                clock=clock,
                new_id=platform.new_id,
                telemetry=telemetry,
                metrics_source=platform.metrics_source or telemetry,
                tenancy=tenancy,
                responses_store=platform.responses_store,
                response_tasks=response_tasks,
                seals=Seals(_secrets(settings, platform)),
                backends=backends,
                cache=cache,
                adapters=adapters,
                model_manager=manager,
                start_failures=platform.start_failures,
                batches=batches,
            )

    @classmethod
    def in_process(
        cls, settings: Settings, engines: Mapping[str, OwnedEngine]
    ) -> contextlib.AbstractAsyncContextManager[Parts]:
        """The parts of a process that is the whole service; see Platform.in_process and open()."""
        return cls.open(settings, engines, Platform.in_process(settings, engines))


def _secrets(settings: Settings, platform: Platform) -> Callable[[], Awaitable[Sequence[bytes]]]:
    """Source of the secrets that seal: the settings', else the platform's own."""

    async def give() -> Sequence[bytes]:
        own = [secret_of(key) for key in settings.responses.encryption_keys]
        return own or [await platform.secret()]

    return give
