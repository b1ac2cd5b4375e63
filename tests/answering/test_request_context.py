from __future__ import annotations

import pickle

import pytest
from starlette.datastructures import Headers

from serving.answering.request_context import RequestContext, attach_context, context_of


def test_a_route_outside_of_the_middleware_is_told_so() -> None:
    with pytest.raises(LookupError, match="RequestMetricsMiddleware"):
        _ = RequestContext("req_1", Headers()).recording
    with pytest.raises(LookupError, match="RequestIdMiddleware"):
        context_of({"type": "http", "path": "/v1/x"})


def test_a_scope_with_its_context_can_be_sent_to_another_process() -> None:
    """Ray Serve's proxy pickles the scopes of requests for replicas."""
    scope: dict[str, object] = {"type": "http", "headers": [(b"x-cache", b"on")]}
    attach_context(scope, RequestContext("req_1", Headers(scope=scope)))
    context = context_of(pickle.loads(pickle.dumps(scope)))
    assert (context.request_id, context.headers["x-cache"]) == ("req_1", "on")
