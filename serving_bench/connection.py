"""HTTP/1.1 connection: one request at a time, its reply handed on as it comes.

Why so low: measured with 32 streams of 125 chunks a second each, CPU us a chunk of the client alone were httpx 96,
aiohttp 39, a plain asyncio.Protocol with httptools 23, the same on uvloop 6. At 512 streams only the last leaves the
machine to the server that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import httptools


class Exchange(Protocol):
    """Receiver of one reply. `now` is the time of the read that brought what is told."""

    def head(self, status: int, event_stream: bool) -> None:
        """Take status and content type."""
        ...

    def body(self, data: bytes, now: float) -> None:
        """Take a part of the body."""
        ...

    def over(self, now: float) -> None:
        """Note that the reply is complete; the connection may already serve another exchange."""
        ...

    def lost(self, why: str, *, stale: bool) -> None:
        """Note that no more will come. `stale`: the server closed an old connection just when this request was sent."""
        ...


class Connection(asyncio.Protocol):
    """Connection that tells `free` when the next request may be sent, and never after it is lost."""

    def __init__(self, free: Callable[[Connection], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self.is_open = False
        self._free = free
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._replies = 0
        self._begun = self._headed = self._framed = self._event_stream = False
        self._now = 0.0

    def send(self, request: bytes, exchange: Exchange) -> None:
        """Write a whole request; one exchange at a time."""
        assert self._transport is not None, "connected before it is handed out"
        self._exchange = exchange
        self._begun = self._headed = self._framed = self._event_stream = False
        self._transport.write(request)

    def close(self) -> None:
        """Drop the connection and whatever is under way on it, without a word to its exchange."""
        self._exchange = None
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # uvloop's is one by its methods, not by its class.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._now = self._clock()
        if self._exchange is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"not HTTP: {error}")
        except httptools.HttpParserUpgrade:
            self._lose("the server wants to speak another protocol")

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self.is_open = False
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if error is None and self._headed and not self._framed:
            # HTTP/1.0's way: the end of the connection is the end of the body.
            exchange.over(self._clock())
        else:
            why = str(error) if error is not None else "the server closed the connection"
            exchange.lost(why, stale=self._replies > 0 and not self._begun)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        name = name.lower()
        if name == b"content-type":
            self._event_stream = value.lower().startswith(b"text/event-stream")
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._headed = True
        if self._exchange is not None:
            self._exchange.head(self._parser.get_status_code(), self._event_stream)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if self._exchange is not None:
            self._exchange.body(data, self._now)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        exchange, self._exchange = self._exchange, None
        self._replies += 1
        if not self._parser.should_keep_alive():
            self.close()
        elif self.is_open:
            self._free(self)
        if exchange is not None:
            exchange.over(self._now)

    def _lose(self, why: str) -> None:
        exchange = self._exchange
        self.close()
        if exchange is not None:
            exchange.lost(why, stale=False)
