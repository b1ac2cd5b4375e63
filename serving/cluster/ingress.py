"""The ingress deployment: the HTTP application in a Serve replica, with one RemoteEngine a model."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from random import Random

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serving.app import create_app
from serving.cluster.autoscaling import Queued
from serving.cluster.drain import DrainGate
from serving.cluster.engine_replica import bind_to_node_address
from serving.cluster.fleet import ClusterFleet, RoutedReplicas, ServeReplicas
from serving.cluster.metrics_source import Asked, ClusterMetrics, ReplicaMetrics, replica_labels
from serving.cluster.names import APPLICATION, INGRESS, engine_deployment
from serving.cluster.queue_reports import QueueReports
from serving.cluster.routing.power_of_two import PowerOfTwo
from serving.cluster.stores.lifecycle import ClusterLifecycleStore
from serving.cluster.stores.limits import open_limits, open_usage
from serving.cluster.stores.readiness import ClusterReadiness
from serving.cluster.stores.secret import cluster_secret
from serving.cluster.stores.start_failures import ClusterStartFailures
from serving.cluster.stores.store import open_answer_store, open_store
from serving.cluster.transport.framed_calls import FramedCalls
from serving.cluster.transport.inbox import Inbox
from serving.cluster.transport.remote_engine import RemoteEngine
from serving.cluster.transport.unary_calls import UnaryCalls
from serving.engine.base import OwnedEngine
from serving.engine.failover import FailoverEngine, FailoverOutcome
from serving.engine.lifecycle.manager import ModelManager
from serving.parts import Parts, Platform
from serving.settings.tree import Settings
from serving.store.from_settings import open_registrations
from serving.telemetry.logs import configure_logging
from serving.telemetry.metrics import FrameLoss
from serving.tenancy.flow_control.admission import AdmissionQueue


class Ingress:
    """The class that Serve constructs; Serve sends HTTP to what `__serve_build_asgi_app__` returns (serve.ingress()).

    Serve ends a replica by the lifespan of that application (ASGIAppReplicaWrapper.__del__ in
    ray/serve/_private/http_util.py, Ray 2.60), in the event loop of the constructor.
    """

    async def __init__(self, settings: Settings, handles: dict[str, DeploymentHandle]) -> None:  # type: ignore[misc]  # Serve awaits a constructor
        bind_to_node_address()
        self._labels = replica_labels()
        configure_logging(settings.logging, sys.stderr, **self._labels)
        async with contextlib.AsyncExitStack() as stack:
            self._parts = await stack.enter_async_context(cluster_parts(settings, handles, self._labels))
            self._gate = DrainGate(create_app(self._parts, lifespan=self._lifespan))
            self._open = stack.pop_all()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        return self._gate

    async def metrics(self, openmetrics: bool) -> ReplicaMetrics:
        """Metrics of this replica; GET /metrics at any replica asks all of them."""
        body = await self._parts.telemetry.exposition(openmetrics=openmetrics)
        return ReplicaMetrics(self._labels["replica"], body)

    async def drain(self) -> int:
        """Let no new request in; returns how many are still under way. May be called again and again."""
        self._gate.draining = True
        return self._gate.ongoing + len(self._parts.response_tasks)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        async with self._open:
            yield


@contextlib.asynccontextmanager
async def cluster_parts(
    settings: Settings, handles: Mapping[str, DeploymentHandle], labels: Mapping[str, str]
) -> AsyncIterator[Parts]:
    """The parts of an ingress replica: one RemoteEngine a model, and stores that all ingress replicas share."""

    # Engines tell the telemetry what happened to requests, and there are none before the parts are yielded.
    def frame_lost(model: str | None, loss: FrameLoss) -> None:
        parts.telemetry.metrics.frame_lost(model or "", loss)

    def failed_over(model: str, outcome: FailoverOutcome, lost_s: float) -> None:
        parts.telemetry.metrics.failed_over(model, outcome, lost_s)

    async with contextlib.AsyncExitStack() as stack:
        inbox = Inbox(ray.util.get_node_ip_address(), frame_lost, settings.frames.curve_keys)
        stack.callback(inbox.close)
        replicas = ServeReplicas(handles)
        remote = {
            name: _remote_engine(settings, name, handle, inbox, functools.partial(replicas.running, name))
            for name, handle in handles.items()
        }
        engines: dict[str, OwnedEngine] = {
            name: FailoverEngine(
                name, engine, settings.failover, functools.partial(failed_over, name), ClusterReadiness(name)
            )
            for name, engine in remote.items()
        }
        for engine in engines.values():
            stack.push_async_callback(engine.close)
            await engine.start()
        platform = Platform(
            labels=labels,
            metrics_source=ClusterMetrics(lambda: _asked(handles)),
            # This replica is only starting: Serve would be asked whether the deployment is there, and made to wait.
            fleet=ClusterFleet(
                handles,
                serve.get_deployment_handle(INGRESS, APPLICATION, _check_exists=False),
                {name: engine.sequences for name, engine in remote.items()},
            ),
            limit_store=open_limits(settings),
            usage_store=open_usage(settings),
            responses_store=open_store(settings),
            answer_store=open_answer_store(settings),
            backend_registrations=open_registrations(settings, "backends"),
            adapter_registrations=open_registrations(settings, "adapters"),
            adapter_hosts=remote,
            start_failures=ClusterStartFailures(),
            secret=cluster_secret,
            model_manager=lambda settings, observer: ModelManager(
                settings, remote, ClusterLifecycleStore(), replicas, observer, clock=time.time, monotonic=time.monotonic
            ),
        )
        parts = await stack.enter_async_context(Parts.open(settings, engines, platform))
        for name, reporting in remote.items():
            reporting.take_loads(parts.tenancy.admission(name).report)
        scaled = [
            name for name, model in settings.models.items() if model.replicas.max not in (None, model.replicas.min)
        ]
        queues = {name: functools.partial(_queued, parts.tenancy.admission(name)) for name in scaled}
        reports = QueueReports(queues, labels["replica"])
        stack.push_async_callback(reports.close)
        reports.start()
        yield parts


def _remote_engine(
    settings: Settings, model: str, handle: DeploymentHandle, inbox: Inbox, running: Callable[[], int | None]
) -> RemoteEngine:
    framed: FramedCalls | None = None
    if settings.frames.requests == "connection":
        framed = FramedCalls(
            model,
            RoutedReplicas(handle),
            PowerOfTwo(Random()),
            inbox.on_loss,
            settings.frames.curve_keys,
            ray.util.get_node_ip_address(),
        )
    unary = UnaryCalls(model, handle, inbox, running, used=lambda: framed is None or not framed.everywhere)
    return RemoteEngine(model, handle, unary, framed)


def _queued(queue: AdmissionQueue) -> Queued:
    return Queued(queue.waiting_tokens, queue.waiting_sequences, queue.longest_wait_s)


def _asked(handles: Mapping[str, DeploymentHandle]) -> list[Asked]:
    engines = [Asked(engine_deployment(name), handle, {"model": name}) for name, handle in handles.items()]
    return [Asked(INGRESS, serve.get_deployment_handle(INGRESS, APPLICATION), {}), *engines]
