"""An engine with one of its adapters at work on every request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from serving.engine.base import Adapter, Engine, EngineInfo, EngineRequest, TokenDelta


class AdaptedEngine:
    """An engine whose requests all use one adapter."""

    def __init__(self, engine: Engine, adapter: Adapter) -> None:
        self._engine = engine
        self._adapter = adapter

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.prepare()

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine."""
        # The engine's own generator: one more around it would cost a step for each token.
        return self._engine.generate(replace(request, adapter=self._adapter))
