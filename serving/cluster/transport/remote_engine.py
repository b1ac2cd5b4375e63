"""A deployment of engine replicas, seen from the ingress as one Engine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from serving.cluster.transport.frames import Reply
from serving.cluster.transport.inbox import Inbox, Stream
from serving.engine.base import Adapter, EngineInfo, EngineReport, EngineRequest, TokenDelta
from serving.engine.load import EngineLoad
from serving.errors import ApiError, EngineDiedError, EngineNotReadyError, InternalError, OverloadedError

logger = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 5.0
_ASK_EVERY_S = 1.0
_LOOK_EVERY_S = 0.1
_RETRY_AFTER_S = 5.0
_ADAPTER_TIMEOUT_S = 120.0
_FEW_TOKENS = 16
"""So short an answer may be complete before its first frame is through."""
_BEGUN_AFTER_S = 1.0
"""A call that lived so long was at work in a replica, even if no frame said so."""


class RemoteEngine:
    """A model's engine replicas as one engine: Serve's router chooses the replica of each request.

    A request is one unary call, under Serve's routing, load accounting, cancellation and errors. The tokens of a
    streamed request come as frames into `inbox`; the call's reply has all tokens and fills in those that frames lost.

    Serve holds a call until a replica appears, however long that takes. So that clients are refused instead, a task
    asks for EngineInfo once a second, and prepare() raises while no replica answers. The task asks nothing while the
    router knows of no replica: a call that waits has Serve start one, also of an unloaded model. `running` returns the
    number of replicas that the router knows.
    """

    def __init__(
        self,
        model: str,
        handle: DeploymentHandle,
        inbox: Inbox,
        running: Callable[[], int | None],
    ) -> None:
        self._model = model
        self._handle = handle
        self._running = running
        self._inbox = inbox
        self._info: EngineInfo | None = None
        self._on_load: Callable[[EngineLoad], None] = lambda load: None
        self._watch: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Begin to ask; returns at once, the engines may not be ready for a long time."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._ask_for_ever(), name=f"watch engine of {self._model}")

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        if self._info is None or not self._running():
            raise self._not_ready()
        return self._info

    def sequences(self) -> int | None:
        """Number of sequences that one replica decodes together; None before any replica has said so."""
        return None if self._info is None else self._info.max_num_seqs

    def take_loads(self, on_load: Callable[[EngineLoad], None]) -> None:
        """Call `on_load` with each load that a replica reports."""
        self._on_load = on_load
        self._inbox.take_loads(self._model, on_load)

    async def check_health(self) -> None:
        """See Engine."""
        await self.prepare()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Closing the iterator cancels the call in the replica."""
        if self._info is None or not self._running():
            raise self._not_ready()
        stream = self._inbox.open(self._model)
        response = self._handle.generate.remote(request, stream.address if request.stream else None)
        call = asyncio.create_task(self._call(request, response, stream))
        call.add_done_callback(functools.partial(_end_of, stream))
        try:
            while True:
                delta = await stream.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            self._inbox.close_stream(stream)
            if not call.done():
                response.cancel()
                call.cancel()
                await asyncio.wait({call})

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
        if self._info is None:
            raise self._not_ready()
        try:
            async with asyncio.timeout(_ADAPTER_TIMEOUT_S):
                calls = await self._handle.broadcast(method, *arguments)._fetch_replica_results_async()
                ends = await asyncio.gather(*(call.get_async() for call in calls), return_exceptions=True)
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._not_ready() from error
        answers = []
        for end in ends:
            if isinstance(end, RayTaskError):
                raise self._translated(end, True) from end
            if isinstance(end, RayError | RayServeException):
                # It is lost, which says nothing of what was asked; the one in its place asks for itself.
                logger.info("a replica of %s was lost while it was asked to %s", self._model, method)
            elif isinstance(end, BaseException):
                raise end
            else:
                answers.append(end)
        if not answers:
            raise self._not_ready()
        return answers

    async def close(self) -> None:
        """Stop asking the replicas for their state. Serve goes on owning the replicas, and the caller the inbox."""
        watch, self._watch, self._info = self._watch, None, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _call(self, request: EngineRequest, response: DeploymentResponse[Reply], stream: Stream) -> None:
        """Wait for the call's end and hand it to the stream's reader."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        try:
            reply = await response
            if reply.load is not None:
                self._on_load(reply.load)
            if request.stream and not stream.begun and len(reply.token_ids) > _FEW_TOKENS:
                self._inbox.on_loss(self._model, "unreachable")
            stream.finish(reply)
        except ApiError as error:
            stream.finish(error)  # between replicas that speak gRPC an error comes as it was raised
        except (RayError, RayServeException) as error:
            begun = stream.begun or loop.time() - begun_at > _BEGUN_AFTER_S
            stream.finish(self._translated(error, begun))

    async def _ask_for_ever(self) -> None:
        while True:
            self._lost.clear()
            info = await self._ask()
            if (info is None) != (self._info is None):
                logger.info("engine of %s is %s", self._model, "not ready" if info is None else "ready")
            self._info = info
            await self._pause()

    async def _pause(self) -> None:
        """Until it is time to ask again: when something was lost, when the first replica is there, or in a while."""
        if not self._running():
            await asyncio.sleep(_LOOK_EVERY_S)  # asks nobody
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_EVERY_S):
                await self._lost.wait()

    async def _ask(self) -> EngineInfo | None:
        if not self._running():
            return None
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
        if info.load is not None:
            self._on_load(info.load)
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
        self._lost.set()  # other replicas may still be there: ask at once
        if isinstance(error, DeploymentUnavailableError) or not begun:
            return self._not_ready()
        return EngineDiedError(f"The engine of model '{self._model}' was lost while it worked on this request.")

    def _not_ready(self) -> EngineNotReadyError:
        return EngineNotReadyError(
            f"The engine of model '{self._model}' is not ready; it is starting or being replaced.",
            retry_after_s=_RETRY_AFTER_S,
        )


def _end_of(stream: Stream, call: asyncio.Task[None]) -> None:
    """Whatever ends the call ends the stream: its reader waits for nothing else."""
    if not call.cancelled() and (error := call.exception()) is not None:
        stream.finish(error if isinstance(error, Exception) else RuntimeError(repr(error)))
