"""End of a request's permit, and headers of the reply: what was ignored, who answered, what is left of limits."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering.cached import CACHE_HEADER
from serving.answering.request_context import context_of


class PermitMiddleware:
    """Settlement of a request's permit at the request's end.

    It stands outside of error handling: refusals have the headers too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and context.notices:
                headers = MutableHeaders(scope=message)
                for name, value in context.notices.items():
                    headers[name] = value
            if message["type"] == "http.response.start" and context.permit is not None:
                headers = MutableHeaders(scope=message)
                for name, value in context.permit.headers():
                    headers[name] = value
                if message["status"] < 400 and context.served_by is not None:
                    headers["x-served-by"] = context.served_by
                if message["status"] < 400 and context.cache_outcome is not None:
                    headers[CACHE_HEADER] = context.cache_outcome
            await send(message)

        try:
            await self._app(scope, receive, send_with_limits)
        finally:
            context.settle()
