"""Shortcut past the middleware for the middle of a stream.

Middleware looks at the head of a reply and at its end; each chunk between them would pay for a dozen calls that pass
it on.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope, Send

_KEY = "direct_send"


class _DirectSend:
    """The server's own `send`, good on the event loop that it was given on. Worth nothing in another process."""

    def __init__(self, send: Send | None = None) -> None:
        self.send = send
        self.loop = None if send is None else asyncio.get_running_loop()

    def __reduce__(self) -> tuple[Any, ...]:
        # Serve's proxy pickles a request's scope for the replica.
        return (_DirectSend, ())


def offer_direct_send(scope: Scope, send: Send) -> None:
    """Keep the server's `send` for chunks; of a request's calls only the first, by the outermost layer, counts."""
    scope.setdefault("state", {}).setdefault(_KEY, _DirectSend(send))


def direct_send(scope: Scope, send: Send) -> Send:
    """Function that sends a chunk between the first and the last message of a reply; `send` where none was offered."""
    offered = scope.get("state", {}).get(_KEY)
    if isinstance(offered, _DirectSend) and offered.send is not None and offered.loop is asyncio.get_running_loop():
        return offered.send
    return send
