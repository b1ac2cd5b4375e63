"""The engine deployment: one replica owns one engine, and with it TP*PP devices."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import prometheus_client
import ray
import ray.serve._private.replica

from serving.cluster import stages
from serving.cluster.metrics_source import ReplicaMetrics, replica_labels
from serving.demo.checkpoint import ensure_checkpoint
from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.engine.scripted import ScriptedEngine, load_script
from serving.engine.vllm import VllmEngine
from serving.settings import ModelSettings, Settings
from serving.telemetry.exposition import exposed


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


def build_engine(settings: Settings, name: str) -> Engine:
    """The engine that `settings` ask for. Nothing is started."""
    model = settings.models[name]
    if settings.engine == "scripted":
        assert settings.script is not None, "settings refuse the scripted engine without a script"
        return ScriptedEngine(load_script(Path(settings.script)), model=name)
    progress = functools.partial(stages.report, name)
    return VllmEngine(name, model, functools.partial(_checkpoint, model, settings.cache_dir), progress)


def _checkpoint(model: ModelSettings, cache_dir: str | None) -> Path | str:
    if model.source == "demo":
        return ensure_checkpoint(Path(cache_dir) if cache_dir else None)
    return model.source


class EngineReplica:
    """What Serve constructs, calls and health-checks."""

    async def __init__(self, settings: Settings, name: str) -> None:  # type: ignore[misc]  # Serve awaits a constructor
        bind_to_node_address()
        self._engine = build_engine(settings, name)
        await self._engine.start()
        stages.report(name, "ready")

    async def info(self) -> EngineInfo:
        """What is served here."""
        return await self._engine.info()

    async def stream(self, request: EngineRequest) -> AsyncIterator[TokenDelta]:
        """Deltas as the engine makes them; cancelling the call stops the engine's work."""
        async with aclosing(self._engine.generate(request)) as deltas:  # type: ignore[type-var]  # a generator behind the protocol
            async for delta in deltas:
                yield delta

    async def complete(self, request: EngineRequest) -> list[TokenDelta]:
        """All deltas at once, for answers that nobody watches as they grow."""
        return [delta async for delta in self.stream(request)]

    async def check_health(self) -> None:
        """Raises when the engine is dead; Serve then replaces this replica."""
        await self._engine.check_health()

    async def metrics(self, openmetrics: bool) -> ReplicaMetrics:
        """What this process has counted. vLLM registers its own with prometheus_client's global registry."""
        body = exposed(prometheus_client.REGISTRY, openmetrics=openmetrics)
        return ReplicaMetrics(replica_labels()["replica"], body)

    async def close(self) -> None:
        """Stop the engine and its processes; the replica answers no request afterwards."""
        await self._engine.close()

    async def __del__(self) -> None:
        # Serve calls and awaits this when it retires the replica; never reached when the constructor failed early.
        if hasattr(self, "_engine"):
            await self._engine.close()
