"""Error replies for exceptions, as long as nothing of a reply has been sent."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering.request_context import context_of
from serving.api.error_replies import error_response, internal_error
from serving.errors import ApiError, MethodNotAllowedError, NotFoundError

logger = logging.getLogger(__name__)


class ErrorHandlingMiddleware:
    """Mapping of exceptions to error replies.

    The client is told the message of an ApiError; any other exception is a bug, logged with its traceback under the
    request's id. Once a reply has begun, the exception goes on and the server cuts the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its exceptions answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            logger.debug("client left; request %s", context_of(scope).request_id)
        except ApiError as error:
            if started:
                raise
            context_of(scope).failed(error)
            await error_response(error, scope)(scope, receive, send)
        except Exception:
            request_id = context_of(scope).request_id
            logger.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            told = internal_error(request_id)
            context_of(scope).failed(told)
            await error_response(told, scope)(scope, receive, send)


async def routing_error(request: Request, error: Exception) -> Response:
    """The reply to Starlette's own HTTPException: no such route, no such method; and OPTIONS, answered plainly."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:
        allowed = [method.strip() for method in (error.headers or {}).get("Allow", "").split(",")]
        allow = ", ".join(sorted({*allowed, "OPTIONS", *(["HEAD"] if "GET" in allowed else [])}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        response = error_response(
            MethodNotAllowedError(f"{request.method} is not allowed for {request.url.path}; it takes {allow}."),
            request.scope,
        )
        response.headers["allow"] = allow
        return response
    if error.status_code == 404:
        return error_response(
            NotFoundError(f"Unknown request URL: {request.method} {request.url.path}. GET /docs lists what there is."),
            request.scope,
        )
    raise error
