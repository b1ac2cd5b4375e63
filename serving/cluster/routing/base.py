"""The protocol of routing policies."""

from __future__ import annotations

from typing import Protocol

from ray.serve.config import RequestRouterConfig


class RoutingPolicy(Protocol):
    """A way to choose the engine replica of a request.

    Ray Serve makes the choice in each ingress process, with a subclass of `ray.serve.request_router.RequestRouter`. A
    policy names that class and configures it; the application gives one policy to the deployments of all models.
    """

    def router(self) -> RequestRouterConfig:
        """Serve's configuration of the router. Equal policies return equal configurations."""
        ...
