"""Chat requests to an application in the same process, without a socket."""

from __future__ import annotations

from typing import Any


def chat_scope(body: bytes, *further: tuple[bytes, bytes]) -> dict[str, Any]:
    """The ASGI scope of POST /v1/chat/completions with `body`, and with `further` headers."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"bench"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *further,
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {},
    }
