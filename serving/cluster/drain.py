"""Counts the requests under way in front of an ASGI application, and lets no new ones in once it drains."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import EngineNotReadyError


class DrainGate:
    """Pure ASGI. Health checks and the like pass and do not count: only POST is work."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.ongoing = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self.draining:
            await _refuse(send)
            return
        self.ongoing += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.ongoing -= 1


async def _refuse(send: Send) -> None:
    error = EngineNotReadyError("This server is shutting down.", code="shutting_down", retry_after_s=5)
    headers = {"content-type": "application/json"} | error.headers()
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(error.body()).encode()})
