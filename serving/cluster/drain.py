"""Counts the requests under way in front of an ASGI application, and lets no new ones in once it drains."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.error_replies import error_response
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
            error = EngineNotReadyError("This server is shutting down.", code="shutting_down", retry_after_s=5)
            await error_response(error, scope)(scope, receive, send)
            return
        self.ongoing += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.ongoing -= 1
