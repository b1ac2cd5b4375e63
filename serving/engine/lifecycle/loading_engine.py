"""An engine whose model may be unloaded: a request loads it and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from serving.engine.base import EngineInfo, EngineRequest, OwnedEngine, TokenDelta
from serving.engine.lifecycle.manager import ModelManager
from serving.engine.lifecycle.model import ModelLifecycle
from serving.errors import EngineNotReadyError

_LOOK_EVERY_S = 0.1


class LoadingEngine:
    """An engine that prepare() loads if it is unloaded, and waits for."""

    def __init__(self, engine: OwnedEngine, manager: ModelManager, lifecycle: ModelLifecycle) -> None:
        self._engine = engine
        self._manager = manager
        self._lifecycle = lifecycle

    async def prepare(self) -> EngineInfo:
        """See Engine. Raises ModelUnloadedError, and OverloadedError where too many wait for it."""
        await self._manager.start()
        await self._lifecycle.ensure_loaded()
        if self._lifecycle.longest_wait and not await self._is_there():
            await self._hold()
        return await self._engine.prepare()

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Raises ModelUnloadedError where it was unloaded while the request waited for its turn."""
        self._lifecycle.refuse_if_gone()
        # The engine's own generator: one more around it would cost a step for each token.
        return self._engine.generate(request)

    async def _hold(self) -> None:
        with self._lifecycle.holding() as look:
            while not await self._is_there():
                look()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _is_there(self) -> bool:
        try:
            await self._engine.check_health()
        except EngineNotReadyError:
            return False
        return True
