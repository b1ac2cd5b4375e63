"""An engine whose model may not be in memory: a request for it has it loaded, and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.engine.lifecycle.manager import Lives
from serving.engine.lifecycle.model import ModelLife
from serving.errors import EngineNotReadyError

_LOOK_EVERY_S = 0.1


class LivingEngine:
    """See Engine; whoever made `engine` starts and closes it. Every request asks for info() before all else."""

    def __init__(self, engine: Engine, lives: Lives, life: ModelLife) -> None:
        self._engine = engine
        self._lives = lives
        self._life = life

    async def start(self) -> None:
        """See Engine; the engine is another's to start."""

    async def close(self) -> None:
        """See Engine; the engine is another's to close."""

    async def info(self) -> EngineInfo:
        """See Engine. Raises ModelUnloadedError, and OverloadedError where too many wait for it."""
        await self._lives.start()
        await self._life.use()
        if self._life.patience and not await self._is_there():
            await self._hold()
        return await self._engine.info()

    async def check_health(self) -> None:
        """See Engine. Does not have the model loaded."""
        await self._engine.check_health()

    def generate(self, request: EngineRequest) -> AsyncIterator[TokenDelta]:
        """See Engine. Raises ModelUnloadedError where it was unloaded while the request waited for its turn."""
        self._life.refuse_if_gone()
        # The engine's own iterator: one more around it would cost a step for each token.
        return self._engine.generate(request)

    async def _hold(self) -> None:
        with self._life.holding() as look:
            while not await self._is_there():
                look()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _is_there(self) -> bool:
        try:
            await self._engine.check_health()
        except EngineNotReadyError:
            return False
        return True
