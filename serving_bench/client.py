"""Client of the load generator: requests over connections that stay open, each with its Outcome."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import serving
from serving_bench.connection import Connection
from serving_bench.outcome import BROKEN_STREAM, REFUSED, TIMEOUT, Outcome
from serving_bench.replies import Reader, error_words, reader
from serving_bench.target import Target, authorization, resolve, tls
from serving_bench.workload import PATHS, Api

_LARGEST_ERROR = 65_536


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, and from a request's start to its reply's end."""

    connect: float = 10.0
    request: float = 600.0


class Client:
    """Client of one API of one target, made and used within one event loop; close() ends it."""

    def __init__(
        self,
        target: Target,
        api: Api,
        *,
        key: str | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Resolve the target's name; raises BenchError."""
        self._target = target
        self._api = api
        self._timeouts = timeouts or Timeouts()
        self._clock = clock
        self._address = resolve(target)
        self._tls: ssl.SSLContext | None = tls(target)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        headers = {
            "host": target.authority,
            "user-agent": f"serving-bench/{serving.__version__}",
            "content-type": "application/json",
            **authorization(key),
        }
        lines = [f"POST {target.path}{PATHS[api]} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = "\r\n".join([*lines, "content-length: "]).encode("latin-1")

    async def perform(self, outcome: Outcome, body: bytes) -> None:
        """Send one request and read its reply to the end. Failures go into `outcome`, nothing is raised."""
        request = b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
        while True:
            connection = await self._connection(outcome)
            if connection is None:
                return
            exchange = _Exchange(outcome, self._api, connection)
            connection.send(request, exchange)
            left = outcome.started + self._timeouts.request - self._clock()
            timer = exchange.loop.call_later(max(0.0, left), exchange.fail, TIMEOUT, "the reply took too long")
            try:
                await exchange.done
            except asyncio.CancelledError:
                connection.close()
                raise
            finally:
                timer.cancel()
                if not connection.is_open:
                    self._open.discard(connection)
            if not exchange.stale:
                return

    def close(self) -> None:
        """Drop every connection."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()

    async def _connection(self, outcome: Outcome) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            self._open.discard(connection)
        loop = asyncio.get_running_loop()
        host = self._target.host if self._tls is not None else None
        try:
            async with asyncio.timeout(self._timeouts.connect):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._idle.append, self._clock),
                    self._address,
                    self._target.port,
                    ssl=self._tls,
                    server_hostname=host,
                )
        except TimeoutError:
            outcome.fail(TIMEOUT, "connecting took too long")
            return None
        except OSError as error:
            outcome.fail(REFUSED, error.strerror or str(error))
            return None
        self._open.add(connection)
        return connection


class _Exchange:
    """One request under way; `done` has no result, `stale` says that it never reached the server."""

    def __init__(self, outcome: Outcome, api: Api, connection: Connection) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.stale = False
        self._outcome = outcome
        self._api = api
        self._connection = connection
        self._status = 0
        self._reader: Reader | None = None
        self._error_body = b""

    def head(self, status: int, event_stream: bool) -> None:
        self._status = status
        if status == 200:
            self._reader = reader(self._api, event_stream, self._outcome)

    def body(self, data: bytes, now: float) -> None:
        if self._reader is None:
            self._error_body += data[: _LARGEST_ERROR - len(self._error_body)]
            return
        self._reader.feed(data, now)
        if self._outcome.error is not None:
            self._connection.close()
            self._finish()

    def over(self, now: float) -> None:
        if self._reader is not None:
            self._reader.end(now)
        else:
            self._outcome.fail(f"status {self._status}", _words(self._error_body))
        self._finish()

    def lost(self, why: str, *, stale: bool) -> None:
        self.stale = stale
        if not stale:
            self._outcome.fail(BROKEN_STREAM, why)
        self._finish()

    def fail(self, kind: str, detail: str) -> None:
        self._outcome.fail(kind, detail)
        self._connection.close()
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _words(body: bytes) -> str:
    try:
        return error_words(json.loads(body))
    except ValueError:
        return body.decode("utf-8", "replace")
