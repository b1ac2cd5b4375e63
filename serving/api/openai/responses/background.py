"""Background responses: made with nobody waiting, stored as they grow, and followed from any connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from serving.answering.deadline import answer_timeout
from serving.answering.request_context import RequestContext
from serving.api.openai.responses.archive import ResponseArchive, ResponseRecord
from serving.api.openai.responses.events import Unwatched
from serving.api.openai.responses.output import OutputBuilder
from serving.api.openai.responses.replay import Follower
from serving.api.openai.responses.response import ResponseFailure, ResponseObject, Status
from serving.api.openai.responses.run import ResponseRun
from serving.api.streaming.event_stream import stream_failure
from serving.background import Background
from serving.errors import (
    ApiError,
    EngineNotReadyError,
    InvalidValueError,
    ItemTooLargeError,
    OverloadedError,
    StoreUnavailableError,
)
from serving.generation.types import ChatEvent

logger = logging.getLogger(__name__)

_STORE_EVERY_S = 1.0
_STORE_AT_LEAST_EVERY_S = 10.0
# Without a word for so long, the server that worked on a response is taken for lost.
_LOST_AFTER_S = 45.0
_LOOK_HERE_EVERY_S = 0.05
_LOOK_EVERY_S = 0.5
_RETRY_AFTER_S = 5.0


class BackgroundRun(ResponseRun):
    """Run of one background response: queue() stores it, make() makes it and stores it as it grows."""

    _building: OutputBuilder | None = None
    _final: ResponseRecord | None = None

    @property
    def id(self) -> str:
        """The response's."""
        return self._draft.id

    async def queue(self) -> ResponseObject:
        """Store the response as queued; raises StoreUnavailableError, and InvalidValueError for an input too large."""
        try:
            await self._storage.archive.save(self._storage.owner, self.record())
        except ItemTooLargeError as error:
            raise InvalidValueError(f"The input is too large to be stored: {error}.", param="input") from error
        return self.record().response

    def record(self) -> ResponseRecord:
        """The record as it is now, the open item included."""
        if self._final is not None:
            return self._final
        response = self._draft.response.copy()
        items, cuts = ([], []) if self._building is None else self._building.so_far()
        response["status"] = "queued" if self._building is None else "in_progress"
        response["output"] = items
        return replace(self._draft, response=response, cuts=cuts, deadline=self._clock() + _LOST_AFTER_S)

    async def make(self) -> None:
        """Make the response. It is failed when that fails, and when the task is cancelled: the server stops."""
        builder = self._builder(Unwatched())
        source = self._answerer.answer(self._generation, streaming=True)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(aclosing(source))
            stack.enter_context(self._interruptible.after(self._longest_s))
            await stack.enter_async_context(self._storage.in_flight.running(self.id, self._interruptible))
            encode = self._recorder.watching(_into(builder))
            try:
                await self._take_all(source, builder, encode)
            except asyncio.CancelledError:
                self._failure = EngineNotReadyError("The server was stopped before the response was complete.")
                await source.aclose()  # first of all the engine stops
                raise
            finally:
                await self._end(builder)

    async def _take_all(
        self, source: AsyncGenerator[ChatEvent], builder: OutputBuilder, encode: Callable[[ChatEvent], bytes]
    ) -> None:
        over = asyncio.Event()
        storing = asyncio.create_task(self._store_until(over), name=f"store the response {self.id}")
        try:
            while (event := await self._interruptible.next(source)) is not None:
                self._building = builder
                encode(event)
        except ApiError as error:
            self._failure = self._in_our_words(error)
        except Exception as error:  # noqa: BLE001 - logged by stream_failure, and told in the response
            self._failure = stream_failure(error, self._recorder.request_id)
        finally:
            over.set()
            await asyncio.wait({storing})  # so that it cannot come after the response's end

    async def _store_until(self, over: asyncio.Event) -> None:
        """Store the response while it grows, and now and then while it does not."""
        stored, since = self._size(), self._clock()
        while not await _happens(over, _STORE_EVERY_S):
            size, now = self._size(), self._clock()
            if size == stored and now - since < _STORE_AT_LEAST_EVERY_S:
                continue
            try:
                await self._storage.archive.save(self._storage.owner, self.record())
            except (StoreUnavailableError, ItemTooLargeError) as error:
                logger.warning("response %s is not stored as far as it is: %s", self.id, error)
            stored, since = size, now

    def _size(self) -> int:
        return -1 if self._building is None else self._building.grown

    async def _end(self, builder: OutputBuilder) -> None:
        """Store the response's end."""
        reason = self._interruptible.reason
        if reason == "timeout" and self._failure is None:
            self._failure = answer_timeout(self._longest_s)
        status: Status = "failed" if self._failure else "cancelled" if reason == "cancelled" else _ended(builder)
        if self._failure is not None:
            self._recorder.failed(self._failure)
        builder.end("incomplete")
        response = await self._finish(builder, status)
        self._final = replace(self._draft, response=response, cuts=builder.cuts)
        if not response["store"]:
            await self._tell_that_it_is_lost(response)

    async def _tell_that_it_is_lost(self, response: ResponseObject) -> None:
        """Store that the response could not be stored, if that can be."""
        lost = response.copy()
        lost["status"], lost["output"], lost["store"] = "failed", [], True
        lost["error"] = ResponseFailure(code="server_error", message="The response could not be stored; see max_bytes.")
        self._final = replace(self._draft, response=lost, cuts=[])
        await self._storage.archive.put(self._storage.owner, self._final)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


def _into(builder: OutputBuilder) -> Callable[[ChatEvent], bytes]:
    def encode(event: ChatEvent) -> bytes:
        builder.add(event)
        return b""

    return encode


def _ended(builder: OutputBuilder) -> Status:
    return "incomplete" if builder.finish_reason == "length" else "completed"


class BackgroundRuns:
    """Background responses of this process, at most `most` at a time; the owner of `tasks` ends them."""

    def __init__(self, archive: ResponseArchive, tasks: Background, most: int) -> None:
        self._archive = archive
        self._tasks = tasks
        self._most = most
        self._running: dict[str, BackgroundRun] = {}

    def check_room(self) -> None:
        """Raise OverloadedError where there are as many as there may be."""
        if len(self._running) >= self._most:
            raise OverloadedError(
                f"This server makes {self._most} background responses already, the most it may. Ask again later.",
                code="too_many_background_responses",
                retry_after_s=_RETRY_AFTER_S,
            )

    async def start(self, run: BackgroundRun, context: RequestContext) -> ResponseObject:
        """Begin `run`, which answers the request of `context`; returns the response as queued. Raises as queue()."""
        self._running[run.id] = run
        try:
            queued = await run.queue()
        except BaseException:
            del self._running[run.id]
            raise
        self._tasks.run(self._made(run, context), f"make the response {run.id}")
        return queued

    async def _made(self, run: BackgroundRun, context: RequestContext) -> None:
        try:
            await run.make()
        finally:
            del self._running[run.id]
            context.settle()
            context.recording.close(status=200, whole=run.record().response["status"] != "cancelled")

    async def followed(self, owner: str, record: ResponseRecord, starting_after: int) -> AsyncGenerator[bytes]:
        """The events of a background response above a number, until its end; from any server that shares the store."""
        follower, response_id = Follower(starting_after), record.id
        run = self._running.get(response_id)
        while True:
            for frame in follower.advance(record):
                yield frame
                await asyncio.sleep(0)
            if not record.in_progress:
                return
            await asyncio.sleep(_LOOK_EVERY_S if run is None else _LOOK_HERE_EVERY_S)
            record = await self._archive.get(owner, response_id) if run is None else run.record()
