"""Every request to the API is recorded from its first byte to its last."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ApiError, InternalError
from serving.telemetry.recorder import Recording, RequestRecorder, attach

_APIS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/models": "models",
    "/tokenize": "tokenize",
    "/detokenize": "tokenize",
    "/v1/tokenize": "tokenize",
    "/v1/detokenize": "tokenize",
    "/admin": "admin",
    "/backends": "admin",
    "/queue": "admin",
}
# Asked by machines all the time, or by people's browsers: no one's answer waits on them.
_UNCOUNTED = frozenset(
    {"/", "/health", "/ready", "/version", "/metrics", "/status", "/docs", "/openapi.json", "/favicon.ico"}
)


def api_of(path: str) -> str:
    """The API that a path belongs to, as metrics call it; "other" for all paths that we do not have."""
    exact = _APIS.get(path)
    if exact is not None:
        return exact
    return next((api for prefix, api in _APIS.items() if path.startswith(f"{prefix}/")), "other")


def _carrier(scope: Scope) -> dict[str, str]:
    """What W3C trace context says, where the client sent it."""
    headers = Headers(scope=scope)
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


class RequestMetrics:
    """Makes a RequestRecorder for each request, which the layers below find in its scope, and closes it at the end.

    To stand outside of error handling, which says what the client was told.
    """

    def __init__(self, app: ASGIApp, recording: Recording) -> None:
        self._app = app
        self._recording = recording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, watched."""
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        recorder = RequestRecorder(
            self._recording,
            request_id=scope["state"]["request_id"],
            api=api_of(path),
            method=scope["method"],
            path=path,
            carrier=_carrier(scope) if self._recording.timed else {},
        )
        attach(scope, recorder)
        status: int | None = None
        whole = False

        async def watched_send(message: Message) -> None:
            nonlocal status, whole
            await send(message)
            if message["type"] == "http.response.body":
                whole = not message.get("more_body", False)
            elif message["type"] == "http.response.start":
                status = message["status"]

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            whole = False
            raise
        except ApiError as error:
            recorder.failed(error)
            raise
        except Exception:
            recorder.failed(InternalError("unhandled"))
            raise
        finally:
            recorder.close(status=status, whole=whole)
