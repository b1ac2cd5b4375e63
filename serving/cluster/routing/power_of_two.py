"""Power of two choices."""

from __future__ import annotations

from ray.serve.config import RequestRouterConfig

_ROUTER = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"
"""Serve's default in Ray 2.60 (ray/serve/_private/constants.py, DEFAULT_REQUEST_ROUTER_PATH).

The path has to be written as Serve writes it: Serve takes a router under any other for a custom one.
"""


class PowerOfTwo:
    """Of two replicas drawn at random, the one with the shorter queue."""

    def router(self) -> RequestRouterConfig:
        """See RoutingPolicy."""
        return RequestRouterConfig(request_router_class=_ROUTER)
