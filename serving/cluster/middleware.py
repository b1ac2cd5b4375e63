"""Middleware outside of Ray Serve's own HTTP layers, in every replica."""

from __future__ import annotations

import uuid

from starlette.middleware import Middleware

from serving.api.middleware.request_ids import RequestIdMiddleware


def outermost() -> list[Middleware]:
    """Middleware that Ray Serve puts outermost (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH).

    Serve adds an x-request-id of its own to every reply; ours, outside of it, leaves one.
    """
    return [Middleware(RequestIdMiddleware, new_id=lambda: uuid.uuid4().hex)]
