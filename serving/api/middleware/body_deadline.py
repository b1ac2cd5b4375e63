"""A body has to arrive in time; who sends a byte now and then does not hold a request open."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RequestTimeoutError


class BodyDeadline:
    """Raises RequestTimeoutError where a body is not complete after `seconds`; ErrorHandling, outside, answers 408.

    HAProxy bounds the time that a request's head may take (`timeout http-request`), and the silence on a connection
    (`timeout client`); that a body comes one byte at a time it lets pass.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
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
                    f"The request's body did not arrive within {self._seconds:g} s.", should_retry=False
                ) from error
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
