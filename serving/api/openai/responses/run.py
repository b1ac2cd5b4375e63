"""Run of one response: generated, sent whole or as a stream, and stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace

from serving.answering.deadline import answer_timeout, within
from serving.api.openai.responses.archive import ResponseArchive, ResponseRecord
from serving.api.openai.responses.conversation_archive import ConversationArchive
from serving.api.openai.responses.events import OutputSink, ResponseEvents, Unwatched
from serving.api.openai.responses.inflight import InFlight, Interruptible
from serving.api.openai.responses.mapping import in_our_words
from serving.api.openai.responses.output import OutputBuilder
from serving.api.openai.responses.response import (
    IncompleteDetails,
    ResponseFailure,
    ResponseObject,
    Status,
)
from serving.api.openai.responses.toolbox import Toolbox
from serving.api.openai.responses.usage import shown_usage
from serving.api.streaming.event_stream import stream_failure
from serving.errors import ApiError, InvalidRequestError, RateLimitError
from serving.generation.answer import AnswerBuilder
from serving.generation.answerer import Answerer
from serving.generation.types import ChatEvent, ChatGeneration
from serving.sealing import Seal
from serving.telemetry.recorder import RequestRecorder

logger = logging.getLogger(__name__)

# After longest_s, until a record in progress is taken for lost: for the last write, and clocks that differ.
_GRACE_S = 30.0
_ANNOUNCE_WITHIN_S = 0.1


@dataclass(frozen=True, slots=True)
class ResponseStorage:
    """Storage of one owner's responses, those under way included."""

    archive: ResponseArchive
    in_flight: InFlight
    conversations: ConversationArchive
    owner: str


class ResponseRun:
    """Run of one response from one generation; the caller calls whole() or frames() once.

    `draft` is the record as it is before anything was generated; its response says in `store` whether to store it.
    `toolbox` has the request's tools; `seal` encrypts reasoning, if it is to be.
    """

    def __init__(
        self,
        answerer: Answerer,
        generation: ChatGeneration,
        draft: ResponseRecord,
        storage: ResponseStorage,
        *,
        recorder: RequestRecorder,
        clock: Callable[[], float],
        longest_s: float,
        toolbox: Toolbox | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._answerer = answerer
        self._generation = generation
        self._draft = draft
        self._storage = storage
        self._recorder = recorder
        self._clock = clock
        self._longest_s = longest_s
        self._toolbox = toolbox or Toolbox(None)
        self._seal = seal
        self._interruptible = Interruptible()
        self._failure: ApiError | None = None
        self._announcing: asyncio.Task[bool] | None = None
        self._over = False

    async def whole(self) -> ResponseObject:
        """Return the response in one piece, once it is stored. Raises the generation's errors."""
        builder, answer = self._builder(Unwatched()), AnswerBuilder(self._generation)
        try:
            source = self._answerer.answer(self._generation, streaming=False)
            async with within(self._longest_s), aclosing(source) as events:
                async for event in events:
                    builder.add(event)
                    answer.add(event)
        except ApiError as error:
            raise self._in_our_words(error) from error
        self._recorder.answered(answer.answer())
        return await self._finish(builder, _status(builder))

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The response as server-sent events.

        An error before the first token is raised; a later one is sent as an event and ends the stream. The response is
        stored before its last event is sent, or as cancelled when the client leaves before that.
        """
        sse = ResponseEvents()
        builder = self._builder(sse)
        source = self._answerer.answer(self._generation, streaming=True)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(aclosing(source))
            stack.enter_context(self._interruptible.after(self._longest_s))
            encode = self._recorder.watching(_encoder(builder, sse))
            encode(await self._started(source))
            try:
                await self._announce(stack)
                sse.begin(self._draft.response)
                sse.work(self._draft.response)
                yield sse.take()
                try:
                    while (event := await self._interruptible.next(source)) is not None:
                        if frame := encode(event):
                            yield frame
                except Exception as error:  # noqa: BLE001 - logged by stream_failure, and told to the client
                    self._failure = stream_failure(error, self._recorder.request_id)
                yield await self._last_frames(builder, sse)
            finally:
                if not self._over:
                    await source.aclose()  # first of all the engine stops
                    builder.end("incomplete")
                    await self._finish(builder, "cancelled")

    async def _started(self, events: AsyncGenerator[ChatEvent, None]) -> ChatEvent:
        """Return the first event; raises the errors of the request and of the engine."""
        try:
            event = await self._interruptible.next(events)
        except ApiError as error:
            raise self._in_our_words(error) from error
        if event is None:
            raise answer_timeout(self._longest_s)
        return event

    def _in_our_words(self, error: ApiError) -> ApiError:
        return in_our_words(error, self._toolbox.places(self._generation.conversation))

    def _builder(self, sink: OutputSink) -> OutputBuilder:
        token = self._draft.id.removeprefix("resp_")
        return OutputBuilder(
            sink,
            token,
            first_number=len(self._draft.input),
            toolbox=self._toolbox,
            summarizes=self._draft.response["reasoning"]["summary"] is not None,
            seal=self._seal,
        )

    async def _announce(self, stack: AsyncExitStack) -> None:
        """Store the response in progress, so that it can be read and cancelled while it is made."""
        if not self._draft.response["store"]:
            return
        storage = self._storage
        await stack.enter_async_context(storage.in_flight.running(self._draft.id, self._interruptible))
        self._draft = replace(self._draft, deadline=self._clock() + self._longest_s + _GRACE_S)
        self._announcing = asyncio.create_task(storage.archive.put(storage.owner, self._draft))
        # A store that is away must not hold up the answer.
        await asyncio.wait({self._announcing}, timeout=_ANNOUNCE_WITHIN_S)

    async def _last_frames(self, builder: OutputBuilder, sse: ResponseEvents) -> bytes:
        if self._interruptible.reason == "timeout":
            self._failure = self._failure or answer_timeout(self._longest_s)
        if self._failure is not None:
            self._recorder.failed(self._failure)
            status: Status = "failed"
        elif self._interruptible.reason == "cancelled":
            status = "cancelled"
        else:
            status = _status(builder)
        builder.end("incomplete")
        sse.end(await self._finish(builder, status))
        return sse.take()

    async def _finish(self, builder: OutputBuilder, status: Status) -> ResponseObject:
        """Return the finished response, stored if it is to be; its `store` says whether that succeeded."""
        response = self._draft.response.copy()
        response["status"] = status
        response["output"] = builder.items
        response["usage"] = None if builder.usage is None else shown_usage(builder.usage)
        if status == "completed":
            response["completed_at"] = int(self._clock())
        if status == "incomplete":
            response["incomplete_details"] = IncompleteDetails(reason="max_output_tokens")
        if self._failure is not None:
            response["error"] = ResponseFailure(code=_code(self._failure), message=self._failure.message)
        if builder.reasoning_truncated:
            response["reasoning_truncated"] = True
        if self._announcing is not None:
            await asyncio.wait({self._announcing})  # so that it cannot come after what follows
        if "conversation" in response and status in ("completed", "incomplete"):
            await self._add_to(response)
        if response["store"]:
            record = replace(self._draft, response=response, cuts=builder.cuts)
            response["store"] = await self._storage.archive.put(self._storage.owner, record)
        self._over = True
        return response

    async def _add_to(self, response: ResponseObject) -> None:
        """Add question and answer to the conversation; where that cannot be done the response names none."""
        conversations, conversation = self._storage.conversations, response["conversation"]["id"]
        items = [*self._draft.input, *(dict(item) for item in response["output"])]
        try:
            await conversations.add(self._storage.owner, conversation, items)
        except ApiError as error:
            logger.warning("response %s is not added to %s: %s", response["id"], conversation, error)
            del response["conversation"]


def _encoder(builder: OutputBuilder, sse: ResponseEvents) -> Callable[[ChatEvent], bytes]:
    def encode(event: ChatEvent) -> bytes:
        builder.add(event)
        return sse.take()

    return encode


def _code(error: ApiError) -> str:
    if isinstance(error, RateLimitError):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, InvalidRequestError) else "server_error"


def _status(builder: OutputBuilder) -> Status:
    return "incomplete" if builder.finish_reason == "length" else "completed"
