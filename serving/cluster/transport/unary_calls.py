"""Calls of a model's engine replicas as actor calls, by Serve's handle; tokens come as frames beside them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from serving.cluster.transport.frames import Reply
from serving.cluster.transport.inbox import Inbox, Stream
from serving.engine.base import EngineInfo, EngineRequest
from serving.engine.load import EngineLoad
from serving.errors import ApiError, EngineDiedError, EngineNotReadyError, InternalError, OverloadedError

logger = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 5.0
_ASK_EVERY_S = 1.0
_LOOK_EVERY_S = 0.1
_RETRY_AFTER_S = 5.0
_FEW_TOKENS = 16
"""So short an answer may be complete before its first frame is through."""
_BEGUN_AFTER_S = 1.0
"""A call that lived so long was at work in a replica, even if no frame said so."""


class UnaryCalls:
    """Calls of `model`'s engine replicas through Serve's handle: Serve's router chooses the replica of each.

    A request is one unary call, under Serve's routing, load accounting, cancellation and errors. The tokens of a
    streamed request come as frames into `inbox`; the call's reply has all tokens and fills in those that frames lost.

    Serve holds a call until a replica appears, however long that takes. So that clients are refused instead, a task
    asks for EngineInfo once a second while `used` says that requests go this way. It asks nothing while the router
    knows of no replica: a call that waits has Serve start one, also of an unloaded model. `running` returns the number
    of replicas that the router knows.
    """

    def __init__(
        self,
        model: str,
        handle: DeploymentHandle,
        inbox: Inbox,
        running: Callable[[], int | None],
        used: Callable[[], bool] = lambda: True,
    ) -> None:
        self._on_load: Callable[[EngineLoad], None] = lambda load: None
        self.lost = asyncio.Event()
        self._model = model
        self._handle = handle
        self._inbox = inbox
        self._running = running
        self._used = used
        self._info: EngineInfo | None = None
        self._watch: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to ask; returns at once, the engines may not be ready for a long time."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._ask_for_ever(), name=f"watch engine of {self._model}")

    async def close(self) -> None:
        """Stop asking. Serve goes on owning the replicas, and the caller the inbox."""
        watch, self._watch, self._info = self._watch, None, None
        tasks = [*self._under_way, *(() if watch is None else (watch,))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def info(self) -> EngineInfo | None:
        """The description that a replica gave; None while none answers."""
        return self._info if self._running() else None

    def take_loads(self, on_load: Callable[[EngineLoad], None]) -> None:
        """Call `on_load` with each load that a replica reports."""
        self._on_load = on_load
        self._inbox.take_loads(self._model, on_load)

    def begin(self, request: EngineRequest) -> tuple[Stream, Callable[[], None]]:
        """The stream of a call that has been sent, and what its reader calls when it leaves."""
        stream = self._inbox.open(self._model)
        response = self._handle.generate.remote(request, stream.address if request.stream else None)
        call = asyncio.create_task(self._call(request, response, stream))
        self._under_way.add(call)
        call.add_done_callback(self._under_way.discard)
        call.add_done_callback(functools.partial(_end_of, stream))
        return stream, functools.partial(self._leave, stream, response, call)

    def _leave(self, stream: Stream, response: DeploymentResponse[Reply], call: asyncio.Task[None]) -> None:
        self._inbox.close_stream(stream)
        if not call.done():
            response.cancel()
            call.cancel()

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
            stream.finish(self.translated(error, begun))

    async def _ask_for_ever(self) -> None:
        while True:
            self.lost.clear()
            info = await self._ask()
            if (info is None) != (self._info is None) and self._used():
                logger.info("engine of %s is %s", self._model, "not ready" if info is None else "ready")
            self._info = info
            await self._pause()

    async def _pause(self) -> None:
        """Until it is time to ask again: when something was lost, when the first replica is there, or in a while."""
        if not self._running() or not self._used():
            await asyncio.sleep(_LOOK_EVERY_S)  # asks nobody
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_EVERY_S):
                await self.lost.wait()

    async def _ask(self) -> EngineInfo | None:
        if not self._running() or not self._used():
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

    def translated(self, error: Any, begun: bool) -> ApiError:
        """The error of a call as a client is told; `begun` says that the replica may have been at work on it."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, ApiError):
            return cause
        if isinstance(error, BackPressureError):
            return OverloadedError(f"Too many requests wait for model '{self._model}'.", retry_after_s=_RETRY_AFTER_S)
        if isinstance(error, RayTaskError):
            logger.error("engine replica of %s failed: %r", self._model, cause)
            return InternalError(f"The engine of model '{self._model}' failed on this request.")
        self.lost.set()  # other replicas may still be there: ask at once
        if isinstance(error, DeploymentUnavailableError) or not begun:
            return self.not_ready()
        return EngineDiedError(f"The engine of model '{self._model}' was lost while it worked on this request.")

    def not_ready(self) -> EngineNotReadyError:
        """The error of a request that no replica takes."""
        return EngineNotReadyError(
            f"The engine of model '{self._model}' is not ready; it is starting or being replaced.",
            retry_after_s=_RETRY_AFTER_S,
        )


def _end_of(stream: Stream, call: asyncio.Task[None]) -> None:
    """Whatever ends the call ends the stream: its reader waits for nothing else."""
    if call.cancelled():
        stream.finish(EngineDiedError("The request was given up."))  # its reader has left, or everything closes
    elif (error := call.exception()) is not None:
        stream.finish(error if isinstance(error, Exception) else RuntimeError(repr(error)))
