"""A deployment of engine replicas, seen from the ingress as one Engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from serving.engine.base import EngineInfo, EngineRequest, TokenDelta
from serving.errors import ApiError, EngineDiedError, EngineNotReadyError, InternalError, OverloadedError

logger = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 5.0
_ASK_EVERY_S = 1.0
_RETRY_AFTER_S = 5.0


class RemoteEngine:
    """Routes requests to one of a model's engine replicas by Serve's router.

    Serve holds a call until a replica appears, however long that takes. A client is better told; so a task asks for
    EngineInfo all the time, and a request that comes while nobody answers is refused.
    """

    def __init__(self, model: str, handle: DeploymentHandle) -> None:
        self._model = model
        self._handle = handle
        self._stream = handle.options(method_name="stream", stream=True)
        self._info: EngineInfo | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to ask; returns at once, the engines may not be ready for a long time."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._ask_for_ever(), name=f"watch engine of {self._model}")

    async def info(self) -> EngineInfo:
        """See Engine."""
        if self._info is None:
            raise self._not_ready()
        return self._info

    async def check_health(self) -> None:
        """See Engine."""
        await self.info()

    async def generate(self, request: EngineRequest) -> AsyncIterator[TokenDelta]:
        """See Engine. Closing the iterator cancels the call in the replica."""
        if self._info is None:
            raise self._not_ready()
        begun = False
        try:
            if request.stream:
                response = self._stream.remote(request)
                try:
                    async for delta in response:
                        begun = True
                        yield delta
                finally:
                    response.cancel()
            else:
                for delta in await self._complete(request):
                    yield delta
        except (RayError, RayServeException) as error:
            raise self._translated(error, begun) from error

    async def close(self) -> None:
        """Stop asking. The replicas are Serve's."""
        watch, self._watch, self._info = self._watch, None, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _complete(self, request: EngineRequest) -> list[TokenDelta]:
        response = self._handle.complete.remote(request)
        try:
            deltas: list[TokenDelta] = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        return deltas

    async def _ask_for_ever(self) -> None:
        while True:
            info = await self._ask()
            if (info is None) != (self._info is None):
                logger.info("engine of %s is %s", self._model, "not ready" if info is None else "ready")
            self._info = info
            await asyncio.sleep(_ASK_EVERY_S)

    async def _ask(self) -> EngineInfo | None:
        response = self._handle.info.remote()
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                info: EngineInfo = await response
        except TimeoutError:
            response.cancel()
            return None
        except asyncio.CancelledError:
            response.cancel()
            raise
        except (RayError, RayServeException, ApiError) as error:
            logger.debug("engine of %s did not answer: %r", self._model, error)
            return None
        return info

    def _translated(self, error: Any, begun: bool) -> ApiError:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, ApiError):
            return cause
        if isinstance(error, BackPressureError):
            return OverloadedError(f"Too many requests wait for model '{self._model}'.", retry_after_s=_RETRY_AFTER_S)
        if isinstance(error, RayTaskError):
            logger.error("engine replica of %s failed: %r", self._model, cause)
            return InternalError(f"The engine of model '{self._model}' failed on this request.")
        if isinstance(error, DeploymentUnavailableError) or not begun:
            self._info = None
            return self._not_ready()
        self._info = None
        return EngineDiedError(f"The engine of model '{self._model}' was lost while it worked on this request.")

    def _not_ready(self) -> EngineNotReadyError:
        return EngineNotReadyError(
            f"The engine of model '{self._model}' is not ready; it is starting or being replaced.",
            retry_after_s=_RETRY_AFTER_S,
        )
