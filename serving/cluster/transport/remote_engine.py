"""A deployment of engine replicas, seen from the ingress as one Engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serving.cluster.transport.framed_calls import FramedCalls
from serving.cluster.transport.unary_calls import UnaryCalls
from serving.engine.base import Adapter, EngineInfo, EngineReport, EngineRequest, TokenDelta
from serving.engine.load import EngineLoad

logger = logging.getLogger(__name__)

_ADAPTER_TIMEOUT_S = 120.0


class RemoteEngine:
    """A model's engine replicas as one engine.

    Requests go over connections (`framed`), where there are any and every replica has an endpoint; otherwise as actor
    calls (`unary`). What concerns all replicas goes through Serve's `handle`.
    """

    def __init__(
        self, model: str, handle: DeploymentHandle, unary: UnaryCalls, framed: FramedCalls | None = None
    ) -> None:
        self._model = model
        self._handle = handle
        self._unary = unary
        self._framed = framed
        self._sequences: int | None = None

    async def start(self) -> None:
        """Begin to look for engines; returns at once, they may not be ready for a long time."""
        if self._framed is not None:
            await self._framed.start()
        await self._unary.start()

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        info = self._calls.info()
        if info is None:
            raise self._unary.not_ready()
        self._sequences = info.max_num_seqs
        return info

    def sequences(self) -> int | None:
        """Number of sequences that one replica decodes together; None before any replica has said so."""
        info = self._calls.info()
        if info is not None:
            self._sequences = info.max_num_seqs
        return self._sequences

    def take_loads(self, on_load: Callable[[EngineLoad], None]) -> None:
        """Call `on_load` with each load that a replica reports."""
        self._unary.take_loads(on_load)
        if self._framed is not None:
            self._framed.on_load = on_load

    async def check_health(self) -> None:
        """See Engine."""
        await self.prepare()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Closing the iterator cancels the call in the replica."""
        calls = self._calls
        if calls.info() is None:
            raise self._unary.not_ready()
        stream, leave = calls.begin(request)
        try:
            while True:
                delta = await stream.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            leave()

    async def load_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost: by every replica that runs. Those that start later load it for the first request."""
        await self._ask_all("load_adapter", adapter)

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See AdapterHost: by every replica that runs."""
        await self._ask_all("unload_adapter", adapter)

    async def sleep(self) -> None:
        """See Sleeper: every replica that runs. A request wakes the one that it comes to."""
        await self._ask_all("sleep")

    async def wake(self) -> None:
        """See Sleeper: every replica that runs."""
        await self._ask_all("wake")

    async def reports(self) -> list[EngineReport]:
        """See Sleeper: of every replica that runs."""
        return [report for reports in await self._ask_all("reports") for report in reports]

    async def _ask_all(self, method: str, *arguments: object) -> list[Any]:
        """Replies of all running replicas. Raises the error of one of them, EngineNotReadyError if none answered."""
        if self._calls.info() is None:
            raise self._unary.not_ready()
        try:
            async with asyncio.timeout(_ADAPTER_TIMEOUT_S):
                calls = await self._handle.broadcast(method, *arguments)._fetch_replica_results_async()
                ends = await asyncio.gather(*(call.get_async() for call in calls), return_exceptions=True)
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._unary.not_ready() from error
        answers = []
        for end in ends:
            if isinstance(end, RayTaskError):
                raise self._unary.translated(end, True) from end
            if isinstance(end, RayError | RayServeException):
                # It is lost, which says nothing of what was asked; the one in its place asks for itself.
                logger.info("a replica of %s was lost while it was asked to %s", self._model, method)
            elif isinstance(end, BaseException):
                raise end
            else:
                answers.append(end)
        if not answers:
            raise self._unary.not_ready()
        return answers

    async def close(self) -> None:
        """Send nothing more. Serve goes on owning the replicas, and the caller the inbox."""
        if self._framed is not None:
            await self._framed.close()
        await self._unary.close()

    @property
    def _calls(self) -> UnaryCalls | FramedCalls:
        framed = self._framed
        return self._unary if framed is None or not framed.everywhere else framed
