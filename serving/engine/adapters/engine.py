"""An engine with one of its adapters at work on every request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from serving.engine.base import Adapter, Engine, EngineInfo, EngineRequest, TokenDelta


class AdaptedEngine:
    """See Engine; whoever made `engine` starts and closes it."""

    def __init__(self, engine: Engine, adapter: Adapter) -> None:
        self._engine = engine
        self._adapter = adapter

    async def start(self) -> None:
        """See Engine; the engine is another's to start."""

    async def close(self) -> None:
        """See Engine; the engine is another's to close."""

    async def info(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.info()

    async def check_health(self) -> None:
        """See Engine."""
        await self._engine.check_health()

    def generate(self, request: EngineRequest) -> AsyncIterator[TokenDelta]:
        """See Engine."""
        # The engine's own iterator: one more around it would cost a step for each token.
        return self._engine.generate(replace(request, adapter=self._adapter))
