"""Recording of each request to the API, from its first byte to its last."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering.request_context import context_of
from serving.api.routing import PathRules
from serving.errors import ApiError, InternalError
from serving.telemetry.recorder import Recording, RequestRecorder


def _carrier(scope: Scope) -> dict[str, str]:
    """Headers of W3C trace context that the client sent."""
    headers = Headers(scope=scope)
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


class RequestMetricsMiddleware:
    """RequestRecorder of each request: made at its start for the layers below, closed at its end.

    It stands outside of error handling, which knows the error that the client was told.
    """

    def __init__(self, app: ASGIApp, recording: Recording, rules: PathRules) -> None:
        self._app = app
        self._rules = rules
        self._recording = recording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, watched."""
        label = self._rules.find(scope["path"]).label if scope["type"] == "http" else None
        if label is None:
            await self._app(scope, receive, send)
            return
        path, context = scope["path"], context_of(scope)
        if context.background is not None:
            label = "batch"
        recorder = RequestRecorder(
            self._recording,
            request_id=context.request_id,
            api=label,
            method=scope["method"],
            path=path,
            carrier=_carrier(scope) if self._recording.timed else {},
        )
        context.recorder = recorder
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
