"""Headers over the limit are refused."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import HeadersTooLargeError


class HeaderLimit:
    """Raises HeadersTooLargeError where names and values together exceed `limit` bytes; ErrorHandling answers 431."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and sum(len(name) + len(value) for name, value in scope["headers"]) > self._limit:
            raise HeadersTooLargeError(f"The request's headers are larger than {self._limit} bytes together.")
        await self._app(scope, receive, send)
