"""Limits of a request as HTTP: the size of its headers, the size of its body, the time its body takes to arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BodyTooLargeError, HeadersTooLargeError, RequestTimeoutError


class HeaderLimitMiddleware:
    """Bounds the headers: raises HeadersTooLargeError, a 431, where names and values together exceed `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            size = 0
            for name, value in scope["headers"]:
                size += len(name) + len(value)
            if size > self._limit:
                raise HeadersTooLargeError(f"The request's headers are larger than {self._limit} bytes together.")
        await self._app(scope, receive, send)


class BodyDeadlineMiddleware:
    """Bounds a body's time: raises RequestTimeoutError, a 408, where a body is not complete after `seconds`.

    Some paths have a time of their own in `others`.

    HAProxy bounds the time that a request's head may take (`timeout http-request`), and the silence on a connection
    (`timeout client`); it passes a body that comes one byte at a time.
    """

    def __init__(self, app: ASGIApp, seconds: float, others: Mapping[str, float] | None = None) -> None:
        self._app = app
        self._seconds = seconds
        self._others = others or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds = self._others.get(scope["path"], self._seconds)
        deadline = asyncio.get_running_loop().time() + seconds
        complete = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeoutError(
                    f"The request's body did not arrive within {seconds:g} s.", should_retry=False
                ) from error
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)


class BodyLimitMiddleware:
    """Bounds a body's size: raises BodyTooLargeError, a 413, once a body declares or has sent over `limit` bytes.

    Some paths have a limit of their own in `others`.
    """

    def __init__(self, app: ASGIApp, limit: int, others: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._limit = limit
        self._others = others or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._others.get(scope["path"], self._limit)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        received = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise _too_large(limit)
            return message

        await self._app(scope, counted_receive, send)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The request body is larger than {limit} bytes, the most this server reads.")
