"""One generation that several requests read."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from serving.errors import ApiError, EngineNotReadyError
from serving.generation.types import ChatEvent, TextDelta, ToolArgumentsDelta

logger = logging.getLogger(__name__)

Keep = Callable[[Sequence[ChatEvent]], Awaitable[None]]

# About what is stored of an event; in memory it takes up to ten times as much until then.
_EVENT_BYTES = 16
_LOGPROB_BYTES = 60
_AHEAD = 64
"""Events that an answer which is not kept may be ahead of its fastest reader."""
_LET_GO = 256


class SharedGeneration:
    """Generation in a task of its own for several readers; it stops when the last reader leaves.

    All events are held while the answer may still be kept, that is up to `most_bytes`, so that a reader may come late.
    Beyond that nobody may join, events that all have read are let go, and the fastest reader sets the pace. A slow one
    holds nobody back: what it has not read yet stays, which is at most the answer. `on_closed` is called once, when
    nobody may join any more.
    """

    def __init__(self, most_bytes: int, on_closed: Callable[[], None]) -> None:
        self.over = False
        self.error: Exception | None = None
        self.too_large = False
        self.end = 0  # events so far, those that are gone included
        self._most_bytes = most_bytes
        self._on_closed = on_closed
        self._closed = False
        self._bytes = 0
        self._events: list[ChatEvent] = []
        self._gone = 0  # events before those in the list
        self._readers: set[Reader] = set()
        self._room = asyncio.Event()
        self._on_over: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self, events: AsyncGenerator[ChatEvent], keep: Keep, on_over: Callable[[], None]) -> None:
        """Begin to take `events`. `on_over` is called once when there are no more; `keep` is awaited with all of a
        whole answer that is not too large."""
        self._on_over = on_over
        self.task = asyncio.create_task(self._run(events, keep), name="make an answer that may be shared")
        self.task.add_done_callback(self._ended)

    def join(self) -> Reader:
        """Add a reader from the beginning; only before `on_closed`."""
        assert not self._closed, "events may be gone"
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    async def leave(self, reader: Reader) -> None:
        """Remove `reader`. Without any left, the generation is stopped before this returns."""
        self._readers.discard(reader)
        if self._readers:
            self._room.set()
        elif not self.over and self.task is not None:
            self._close()
            self.task.cancel()
            await asyncio.wait({self.task})

    def read(self, reader: Reader) -> ChatEvent:
        """Next event of the reader, which has arrived."""
        event = self._events[reader.position - self._gone]
        reader.position += 1
        if self._closed:
            self._room.set()
            self._let_go()
        return event

    async def _run(self, events: AsyncGenerator[ChatEvent], keep: Keep) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    self._add(event)
                    while self._closed and self._is_ahead():
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:  # noqa: BLE001  (handed on: every reader raises it)
            self.error = error
            self._close()
        self._finish()
        if not self._closed:
            try:
                await keep(self._events)
            finally:
                self._close()

    def _add(self, event: ChatEvent) -> None:
        self._events.append(event)
        self.end += 1
        if not self._closed:
            self._bytes += _size(event)
            if self._bytes > self._most_bytes:
                self.too_large = True
                self._close()
        for reader in self._readers:
            reader.grown.set()

    def _is_ahead(self) -> bool:
        most = max((reader.position for reader in self._readers), default=0)
        return self.end - most > _AHEAD

    def _let_go(self) -> None:
        done = min(reader.position for reader in self._readers) - self._gone if self._readers else 0
        if done >= _LET_GO:
            del self._events[:done]
            self._gone += done

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_closed()

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            self._wake()
            if self._on_over is not None:
                self._on_over()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.grown.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and not self.over:
            self.error = EngineNotReadyError("The server is stopping. Try again.", retry_after_s=1)
        self._close()
        self._finish()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an answer could not be kept", exc_info=error)


class Reader:
    """Reader of a shared generation for one request; the caller of join() calls leave()."""

    def __init__(self, shared: SharedGeneration) -> None:
        self.position = 0
        self.grown = asyncio.Event()
        self._shared = shared

    @property
    def whole(self) -> bool:
        """Whether the whole answer has arrived."""
        return self._shared.over and self._shared.error is None

    @property
    def failed(self) -> bool:
        """Whether the generation failed."""
        return self._shared.error is not None

    async def events(self) -> AsyncGenerator[ChatEvent]:
        """Events of the answer from its beginning; raises the generation's error."""
        shared = self._shared
        while True:
            while self.position < shared.end:
                yield shared.read(self)
            if shared.over:
                break
            self.grown.clear()
            await self.grown.wait()
        if shared.error is not None:
            # Each its own: routes put their own words into an error.
            raise copy.copy(shared.error) if isinstance(shared.error, ApiError) else shared.error

    async def leave(self) -> None:
        """Stop reading."""
        await self._shared.leave(self)


def _size(event: ChatEvent) -> int:
    """About how many bytes of the event are stored."""
    if isinstance(event, TextDelta):
        size = _EVENT_BYTES + len(event.text)
        if event.logprobs:
            size += _LOGPROB_BYTES * sum(1 + len(entry.top) for entry in event.logprobs)
        return size
    return _EVENT_BYTES + (len(event.text) if isinstance(event, ToolArgumentsDelta) else 0)
