"""Request ids: one for each request, in each reply."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering.background import BACKGROUND_KEY
from serving.answering.request_context import RequestContext, attach_context
from serving.api.streaming.direct_send import offer_direct_send

_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestIdMiddleware:
    """Request id: the client's x-request-id where it is 1 to 128 of `A-Za-z0-9._:-`, else a new one.

    Makes the request's context with it (context_of). The reply carries it once, whatever layers below set, and the
    milliseconds until its headers were ready as `openai-processing-ms`. Layers below see it as if the client had sent
    it, so this may also stand before a server that has ids of its own, as Ray Serve does.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, named."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        offer_direct_send(scope, send)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _VALID.fullmatch(given) else f"req_{self._new_id()}"
        background = scope.get("state", {}).get(BACKGROUND_KEY)
        attach_context(scope, RequestContext(request_id, headers, background=background))
        if given != request_id:
            MutableHeaders(scope=scope)["x-request-id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
            await send(message)

        await self._app(scope, receive, send_with_id)
