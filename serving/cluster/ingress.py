"""The ingress deployment: the HTTP application in a Serve replica, with one RemoteEngine a model."""

from __future__ import annotations

from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serving.app import create_app
from serving.cluster.drain import DrainGate
from serving.cluster.engine_replica import bind_to_node_address
from serving.cluster.remote_engine import RemoteEngine
from serving.settings import Settings


class Ingress:
    """What Serve constructs; Serve sends HTTP to what `__serve_build_asgi_app__` returns (serve.ingress())."""

    async def __init__(self, settings: Settings, handles: dict[str, DeploymentHandle]) -> None:  # type: ignore[misc]  # Serve awaits a constructor
        bind_to_node_address()
        self._engines = {name: RemoteEngine(name, handle) for name, handle in handles.items()}
        for engine in self._engines.values():
            await engine.start()
        self._gate = DrainGate(create_app(settings, self._engines))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        return self._gate

    async def drain(self) -> int:
        """Let no new request in; returns how many are still under way. May be called again and again."""
        self._gate.draining = True
        return self._gate.ongoing

    async def __del__(self) -> None:
        # Serve calls and awaits this when it retires the replica; never reached when the constructor failed early.
        for engine in getattr(self, "_engines", {}).values():
            await engine.close()
