"""Reply as a stream of server-sent events: its head, its comments while silent, its errors and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Generic, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.answering.deadline import within
from serving.answering.request_context import context_of
from serving.api.error_replies import internal_error
from serving.api.streaming.direct_send import direct_send
from serving.api.streaming.disconnect import until_disconnect
from serving.api.streaming.sse import DONE, KEEP_ALIVE, error_frame
from serving.errors import ApiError
from serving.telemetry.recorder import RequestRecorder

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would otherwise collect chunks before it passes them on.
    "x-accel-buffering": "no",
}


def _error_frame(error: ApiError) -> bytes:
    return error_frame(error.body())


# How long a client that does not read is waited for once its stream has failed.
_PARTING_S = 5.0


class EventStream(Response, Generic[_T]):
    """Reply that sends `encode(event)` for each of `events`, without empty frames, then `done`.

    The status line waits for the first event, so that an error before it is a plain HTTP error; but no longer than
    `keep_alive_s`, after which a silent stream sends `keep_alive`, a comment line. A later error is sent as
    `encode_error` writes it, and ends the stream. `longest_s` bounds the whole. The stream closes `events` at
    its end, and at once when the client leaves. One frame is sent at a time, so a slow client slows the events instead
    of filling memory.
    """

    def __init__(
        self,
        events: AsyncGenerator[_T],
        encode: Callable[[_T], bytes],
        *,
        headers: Mapping[str, str],
        request_id: str,
        keep_alive_s: float,
        longest_s: float,
        done: bytes = DONE,
        keep_alive: bytes = KEEP_ALIVE,
        encode_error: Callable[[ApiError], bytes] = _error_frame,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**_HEADERS, **headers})
        self._events = events
        self._encode = encode
        self._request_id = request_id
        self._keep_alive_s = keep_alive_s
        self._longest_s = longest_s
        self._done = done
        self._keep_alive = keep_alive
        self._encode_error = encode_error
        self._recorder: RequestRecorder | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; raises errors from before the status line was sent, and ClientDisconnect."""
        self._recorder = context_of(scope).recorder
        await until_disconnect(receive, self._run(_Writer(send, direct_send(scope, send), self.raw_headers)))

    async def _run(self, writer: _Writer) -> None:
        comments = asyncio.create_task(self._fill_silence(writer))
        try:
            await self._copy(writer)
        except ClientDisconnect:
            raise
        except Exception as error:
            if not writer.started:
                raise
            await self._part(writer, stream_failure(error, self._request_id))
        finally:
            comments.cancel()
            await asyncio.wait({comments})

    async def _copy(self, writer: _Writer) -> None:
        encode, write = self._encode, writer.write
        async with within(self._longest_s), aclosing(self._events) as events:
            async for event in events:
                if frame := encode(event):
                    await write(frame)
            await write(self._done, last=True)

    async def _part(self, writer: _Writer, error: ApiError) -> None:
        if self._recorder is not None:
            self._recorder.failed(error)
        try:
            async with asyncio.timeout(_PARTING_S):
                await writer.write(self._encode_error(error), last=True)
        except TimeoutError as timeout:
            raise ClientDisconnect from timeout

    async def _fill_silence(self, writer: _Writer) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_s - writer.silence_s())
            if writer.silence_s() >= self._keep_alive_s:
                try:
                    await writer.write(self._keep_alive)
                except ClientDisconnect:
                    return  # until_disconnect() ends the stream


def stream_failure(error: Exception, request_id: str) -> ApiError:
    """Log an error that ends a stream that has begun, bugs with their traceback; returns what its client is told."""
    if isinstance(error, ApiError):
        logger.warning("request %s failed in its stream: %s", request_id, error)
        return error
    logger.error("request %s failed in its stream", request_id, exc_info=error)
    return internal_error(request_id)


class _Writer:
    """Writer of frames, one at a time; the first write sends the status line too.

    All but the first and the last go out by `middle_send`.
    """

    def __init__(self, send: Send, middle_send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = False
        self._send = send
        self._middle_send = middle_send
        self._headers = headers
        self._lock = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self._wrote_at = self._clock()

    def silence_s(self) -> float:
        """Seconds since the last write ended."""
        return self._clock() - self._wrote_at

    async def write(self, frame: bytes, *, last: bool = False) -> None:
        """Send a frame. Raises ClientDisconnect when the client is gone."""
        async with self._lock:
            try:
                send = self._send if last else self._middle_send
                if not self.started:
                    self.started, send = True, self._send
                    await send({"type": "http.response.start", "status": 200, "headers": self._headers})
                await send({"type": "http.response.body", "body": frame, "more_body": not last})
            except OSError as error:
                raise ClientDisconnect from error
            self._wrote_at = self._clock()
