"""Power of two choices, by Serve's own default router."""

from __future__ import annotations

from ray.serve.config import RequestRouterConfig

from serving.cluster.routing.base import RoutingPolicy
from serving.cluster.routing.power_of_two import PowerOfTwo


def test_it_is_what_serve_does_by_default() -> None:
    policy: RoutingPolicy = PowerOfTwo()
    router = policy.router()
    assert router == RequestRouterConfig()
    assert router.is_default_request_router()
    assert router.get_request_router_class().__name__ == "PowerOfTwoChoicesRequestRouter"
