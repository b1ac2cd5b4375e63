"""Requests of this process to its own application, without a socket: a batch's lines take the way of all requests."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message

from serving.answering.background import BACKGROUND_KEY, BackgroundRequest
from serving.batches.asking import Answer
from serving.batches.records import Endpoint


class InProcessClient:
    """See Ask; asks `app`, with all its middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, endpoint: Endpoint, body: bytes, request_id: str, request: BackgroundRequest) -> Answer:
        """See Ask."""
        sent = False
        status, headers, parts = 500, dict[str, str](), list[bytes]()

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()  # this client never leaves; it is cancelled
            raise AssertionError("unreachable")

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(_scope(endpoint, body, request_id, request), receive, send)
        return Answer(status, headers, b"".join(parts))


def _scope(endpoint: Endpoint, body: bytes, request_id: str, request: BackgroundRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": endpoint,
        "raw_path": endpoint.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"batch"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            # Requests that share an answer would wait for the idle moments that this one waits for.
            (b"x-cache", b"off"),
        ],
        "client": None,
        "server": ("batch", 80),
        "state": {BACKGROUND_KEY: request},
        "extensions": {},
    }
