"""The engine deployment: one replica owns one engine, and with it TP*PP devices."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import prometheus_client
import ray
import ray.serve._private.replica
from ray.exceptions import RayError

from serving.cluster.autoscaling import engine_stats
from serving.cluster.metrics_source import ReplicaMetrics, replica_labels
from serving.cluster.orphans import describe_orphans
from serving.cluster.stores import start_failures as start_failure
from serving.cluster.stores import start_stages as stages
from serving.cluster.transport.endpoint import ReplicaEndpoint
from serving.cluster.transport.frames import Address, Reply
from serving.cluster.transport.load_reports import LoadReports
from serving.cluster.transport.outbox import Outbox
from serving.demo.checkpoint import ensure_checkpoint
from serving.engine.accelerator import probe
from serving.engine.base import (
    Adapter,
    EngineInfo,
    EngineReport,
    EngineRequest,
    FinishReason,
    PushingEngine,
    TokenDelta,
    TokenLogprobs,
)
from serving.engine.load import EngineLoad
from serving.engine.scripted import ScriptedEngine, load_script
from serving.engine.sleeping import SleepingEngine
from serving.engine.start_failure import ProcessLog
from serving.engine.start_failure import start_failure as failure_of
from serving.engine.vllm.engine import VllmEngine
from serving.errors import EngineDiedError
from serving.planning.bound import bound_tokens_s
from serving.settings.cache_dir import default_cache_dir
from serving.settings.http import LOOPBACK
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from serving.telemetry.engine_metrics import engine_metrics
from serving.telemetry.exposition import exposed
from serving.telemetry.logs import configure_logging
from serving.tenancy.flow_control.saturation import REPORT_EVERY_S

logger = logging.getLogger(__name__)


def bind_to_node_address() -> None:
    """Have Serve's port for calls between replicas listen on this node's address alone.

    Ray 2.60 binds it to every interface without authentication (ray/serve/_private/replica.py, _on_initialized), after
    the deployment's constructor has run and through this module-level name. It takes pickles.
    """
    original = ray.serve._private.replica.add_port_to_grpc_server
    if getattr(original, "bound_to_node", False):
        return

    @functools.wraps(original)
    def add_port(server: object, address: str) -> int:
        if address.startswith("[::]:"):
            address = f"{ray.util.get_node_ip_address()}:{address.removeprefix('[::]:')}"
        port: int = original(server, address)
        return port

    add_port.bound_to_node = True  # type: ignore[attr-defined]  # a mark on our own function, read above
    ray.serve._private.replica.add_port_to_grpc_server = add_port


def build_engine(settings: Settings, name: str) -> PushingEngine:
    """The engine that `settings` ask for. Nothing is started."""
    model = settings.models[name]
    if settings.engine == "scripted":
        assert settings.script is not None, "settings refuse the scripted engine without a script"
        return ScriptedEngine(load_script(Path(settings.script)), model=name, settings=model)
    progress = functools.partial(stages.report, name)
    cache_dir = Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()
    return VllmEngine(
        name, model, functools.partial(_checkpoint, model, settings.cache_dir), progress, cache_dir=cache_dir
    )


def _checkpoint(model: ModelSettings, cache_dir: str | None) -> Path | str:
    if model.source == "demo":
        return ensure_checkpoint(Path(cache_dir) if cache_dir else None)
    return model.source


def _place() -> str:
    """The suffix that names this node beside one of its paths; "" on a cluster of one machine."""
    address = ray.util.get_node_ip_address()
    return "" if address in LOOPBACK else f" on node {address}"


class EngineReplica:
    """Engine replica: Serve constructs it, routes calls to it and checks its health."""

    async def __init__(self, settings: Settings, name: str) -> None:  # type: ignore[misc]  # Serve awaits a constructor
        bind_to_node_address()
        configure_logging(settings.logging, sys.stderr, **replica_labels())
        self._outbox = Outbox(settings.frames.pace_ms / 1000, settings.frames.curve_keys)
        for sentence in describe_orphans():
            logger.warning("%s", sentence)
        log = ProcessLog()
        try:
            self._engine = SleepingEngine(
                name, build_engine(settings, name), settings.models[name], clock=time.time, monotonic=time.monotonic
            )
            await self._engine.start()
        except Exception as error:
            # Serve tries again, and whoever waits for this replica cannot ask it.
            failure = failure_of(error, log, _place())
            logger.error("the engine of %s did not start: %s", name, "; ".join(failure.lines()))
            with contextlib.suppress(RayError, TimeoutError):  # the error itself is what counts
                start_failure.record(name, failure)
            raise
        with contextlib.suppress(RayError, TimeoutError):  # the engine answers; what was is only told a little longer
            start_failure.clear(name)
        self._info = await self._engine.prepare()
        self._metrics = engine_metrics(name, *await self._size(settings, name))
        # After the engine's processes: none of them inherits a socket that tells when this process ends.
        self._endpoint = ReplicaEndpoint(
            ray.util.get_node_ip_address(),
            self._run,
            self.info,
            settings.frames.pace_ms / 1000,
            settings.frames.curve_keys,
        )
        self._load_reports = LoadReports(self._engine.load, self._report, REPORT_EVERY_S)
        stages.report(name, "ready")

    async def _size(self, settings: Settings, name: str) -> tuple[int, float | None]:
        """GPUs of the engine, and the tokens a second that it cannot pass."""
        accelerator = await asyncio.to_thread(probe)
        if settings.engine == "scripted" or accelerator.device == "cpu":
            return 0, None
        model, streams = settings.models[name], self._info.max_num_seqs
        return model.devices, streams and bound_tokens_s(model, accelerator, streams, self._info.max_model_len)

    async def record_replica_metadata(self) -> dict[str, Any]:
        """The endpoint for requests; Serve asks once, and tells every ingress replica."""
        return self._endpoint.endpoint.metadata()

    async def info(self) -> EngineInfo:
        """Description of the engine, at once."""
        return replace(await self._engine.prepare(), load=self._engine.load())

    async def generate(self, request: EngineRequest, address: Address | None) -> Reply:
        """Complete `request`; returns all of it. Its tokens also go to `address`, if there is one, as they are made.

        Reports of the engine's load go there too; without an address the load is in the reply.

        Cancelling the call stops the engine's work.
        """
        token_ids: list[int] = []
        logprobs: list[TokenLogprobs] | None = None if request.sampling.logprobs is None else []
        cached_tokens = 0
        finish_reason: FinishReason | None = None

        def push(delta: TokenDelta) -> None:
            nonlocal cached_tokens, finish_reason
            finish_reason = delta.finish_reason
            cached_tokens = max(cached_tokens, delta.cached_tokens)
            if address is not None and finish_reason is None:  # the last ones come with the reply
                self._outbox.add(address, len(token_ids), delta)
            token_ids.extend(delta.token_ids)
            if logprobs is not None:
                logprobs.extend(delta.logprobs or ())

        if address is not None:
            self._outbox.greet(address)
        with self._load_reports.request():
            await self._engine.run(request, push)
        if finish_reason is None:
            raise EngineDiedError("The engine stopped sending before the answer was complete.")
        load = self._engine.load() if address is None else None
        return Reply(token_ids, finish_reason, cached_tokens, logprobs, load)

    async def _run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        with self._load_reports.request():
            await self._engine.run(request, push)

    def _report(self, load: EngineLoad) -> None:
        self._outbox.report(load)
        self._endpoint.report(load)

    async def load_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        await self._engine.load_adapter(adapter)

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost."""
        await self._engine.unload_adapter(adapter)

    async def sleep(self) -> None:
        """See Sleeper."""
        await self._engine.sleep()

    async def wake(self) -> None:
        """See Sleeper."""
        await self._engine.wake()

    async def reports(self) -> list[EngineReport]:
        """See Sleeper: this replica's own."""
        return await self._engine.reports()

    async def check_health(self) -> None:
        """Raise when the engine is dead; Serve then replaces this replica."""
        await self._engine.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Load of the engine for the autoscaling policy; Serve asks for it by this name."""
        return engine_stats(self._engine.load(), self._info.max_num_seqs)

    async def metrics(self, openmetrics: bool) -> ReplicaMetrics:
        """Metrics of this process. vLLM registers its own with prometheus_client's global registry."""
        body = exposed(self._metrics, prometheus_client.REGISTRY, openmetrics=openmetrics)
        return ReplicaMetrics(replica_labels()["replica"], body)

    async def close(self) -> None:
        """Stop the engine and its processes; the replica answers no request afterwards."""
        self._load_reports.close()
        await self._endpoint.close()
        await self._engine.close()

    async def __del__(self) -> None:
        # Serve calls and awaits this when it retires the replica; never reached when the constructor failed early.
        # It has waited for the actor calls under way, and ends the process when graceful_shutdown_timeout_s is over.
        if hasattr(self, "_endpoint"):
            await self._endpoint.drain()
            self._load_reports.close()
            await self._endpoint.close()
        if hasattr(self, "_engine"):
            await self._engine.close()
            self._outbox.close()
