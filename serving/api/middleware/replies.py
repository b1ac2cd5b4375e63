"""Rules that hold for every reply: HEAD has no body, and browsers may do no more with a reply than read it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_UNLESS_SET = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    # Answers are a team's own; no cache between us and the client may keep one.
    (b"cache-control", b"no-store"),
)


class SecurityHeadersMiddleware:
    """Security headers on every reply. There are none for CORS: browsers of other sites read nothing here.

    A proxy that ends TLS in front of this server adds Strict-Transport-Security.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers += _ALWAYS
                headers += [header for header in _UNLESS_SET if header[0] not in there]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class HeadMiddleware:
    """HEAD as GET without its body (RFC 9110, section 9.3.2); routes know GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, HEAD turned into GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)
