"""The ingress deployment: the HTTP application in a Serve replica, with one RemoteEngine a model."""

from __future__ import annotations

import functools
import sys
import time
import uuid

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serving.app import create_app
from serving.backends.registry import Backends
from serving.cache.answers import AnswerCache
from serving.cluster.drain import DrainGate
from serving.cluster.engine_replica import bind_to_node_address
from serving.cluster.fleet import ClusterFleet, ServeReplicas
from serving.cluster.metrics_source import Asked, ClusterMetrics, ReplicaMetrics, replica_labels
from serving.cluster.names import APPLICATION, INGRESS, engine_deployment
from serving.cluster.stores.lifecycle import ClusterLifeStore
from serving.cluster.stores.limits import open_limits, open_usage
from serving.cluster.stores.readiness import ClusterReadiness
from serving.cluster.stores.start_failures import ClusterStartFailures
from serving.cluster.stores.store import open_answer_store, open_store
from serving.cluster.transport.inbox import Inbox
from serving.cluster.transport.remote_engine import RemoteEngine
from serving.engine.adapters.registry import Adapters
from serving.engine.base import Engine
from serving.engine.failover import FailoverEngine, FailoverOutcome
from serving.engine.lifecycle.manager import Lives
from serving.settings.tree import Settings
from serving.store.from_settings import open_registrations
from serving.telemetry.logs import configure_logging
from serving.telemetry.metrics import FrameLoss
from serving.telemetry.process import ProcessTelemetry
from serving.tenancy.tenancy import Tenancy


class Ingress:
    """What Serve constructs; Serve sends HTTP to what `__serve_build_asgi_app__` returns (serve.ingress())."""

    async def __init__(self, settings: Settings, handles: dict[str, DeploymentHandle]) -> None:  # type: ignore[misc]  # Serve awaits a constructor
        bind_to_node_address()
        self._labels = replica_labels()
        configure_logging(settings.logging, sys.stderr, **self._labels)
        self._inbox = Inbox(ray.util.get_node_ip_address(), self._frame_lost, settings.frames.curve_keys)
        replicas = ServeReplicas(handles)
        remote = {
            name: RemoteEngine(name, handle, self._inbox, functools.partial(replicas.running, name))
            for name, handle in handles.items()
        }
        self._engines: dict[str, Engine] = {
            name: FailoverEngine(
                name,
                engine,
                settings.failover,
                functools.partial(self._failed_over, name),
                ClusterReadiness(name),
            )
            for name, engine in remote.items()
        }
        for engine in self._engines.values():
            await engine.start()
        start_failures = ClusterStartFailures()
        self._telemetry = ProcessTelemetry(settings, self._engines, labels=self._labels, start_failures=start_failures)
        source = ClusterMetrics(lambda: _asked(handles))
        limits, usage = open_limits(settings), open_usage(settings)
        self._tenancy = Tenancy(
            settings,
            clock=time.time,
            monotonic=time.monotonic,
            limit_store=limits,
            usage_store=usage,
            # This replica is only starting: Serve would be asked whether the deployment is there, and made to wait.
            fleet=ClusterFleet(
                handles,
                serve.get_deployment_handle(INGRESS, APPLICATION, _check_exists=False),
                {name: engine.sequences for name, engine in remote.items()},
            ),
        )
        self._tenancy.start()
        self._store = open_store(settings)
        self._backends = Backends(
            settings.backends, clock=time.monotonic, registrations=open_registrations(settings, "backends")
        )
        await self._backends.start()
        self._cache: AnswerCache | None = None
        if settings.cache.backend != "off":
            self._cache = AnswerCache(
                settings.cache, open_answer_store(settings), on_failure=self._telemetry.metrics.cache_failed
            )
        self._adapters = Adapters(
            settings,
            remote,
            new_version=lambda: uuid.uuid4().hex,
            registrations=open_registrations(settings, "adapters"),
        )
        await self._adapters.start()
        self._lives = Lives(
            settings,
            remote,
            ClusterLifeStore(),
            replicas,
            self._telemetry.metrics,
            clock=time.time,
            monotonic=time.monotonic,
        )
        await self._lives.start()
        app = create_app(
            settings,
            self._engines,
            telemetry=self._telemetry,
            metrics_source=source,
            tenancy=self._tenancy,
            responses_store=self._store,
            backends=self._backends,
            cache=self._cache,
            adapters=self._adapters,
            lives=self._lives,
            start_failures=start_failures,
        )
        self._gate = DrainGate(app)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        return self._gate

    async def metrics(self, openmetrics: bool) -> ReplicaMetrics:
        """What this replica has counted; GET /metrics at any replica asks all of them."""
        return ReplicaMetrics(self._labels["replica"], await self._telemetry.exposition(openmetrics=openmetrics))

    async def drain(self) -> int:
        """Let no new request in; returns how many are still under way. May be called again and again."""
        self._gate.draining = True
        return self._gate.ongoing

    async def __del__(self) -> None:
        # Serve calls and awaits this when it retires the replica; never reached when the constructor failed early.
        for engine in getattr(self, "_engines", {}).values():
            await engine.close()
        if hasattr(self, "_inbox"):
            self._inbox.close()
        if hasattr(self, "_tenancy"):
            await self._tenancy.close()
        if hasattr(self, "_backends"):
            await self._backends.close()
        if cache := getattr(self, "_cache", None):
            await cache.close()
        if hasattr(self, "_adapters"):
            await self._adapters.close()
        if hasattr(self, "_lives"):
            await self._lives.close()
        if hasattr(self, "_store"):
            await self._store.close()
        if hasattr(self, "_telemetry"):
            await self._telemetry.close()

    def _frame_lost(self, model: str | None, loss: FrameLoss) -> None:
        self._telemetry.metrics.frame_lost(model or "", loss)

    def _failed_over(self, model: str, outcome: FailoverOutcome, lost_s: float) -> None:
        self._telemetry.metrics.failed_over(model, outcome, lost_s)


def _asked(handles: dict[str, DeploymentHandle]) -> list[Asked]:
    engines = [Asked(engine_deployment(name), handle, {"model": name}) for name, handle in handles.items()]
    return [Asked(INGRESS, serve.get_deployment_handle(INGRESS, APPLICATION), {}), *engines]
