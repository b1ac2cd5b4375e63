"""Metrics of every process of the service in one answer: GET /metrics."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from serving.api.routing import PathRule, Router
from serving.telemetry.exposition import OPENMETRICS_TYPE, TEXT_TYPE, MetricsSource, merge

PATH = "/metrics"


def metrics_router(source: MetricsSource) -> Router:
    """The route; Authentication, outside, asks for the administrator's key where there are keys."""
    router = Router(PathRule(PATH, label=None, audience="administrator"), tags=["operations"])

    @router.get(PATH, summary="Metrics of every process, for Prometheus")
    async def metrics(request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        expositions = await source.collect(openmetrics=openmetrics)
        # Long with many replicas, and not one step: others get their turn.
        body = await asyncio.to_thread(merge, expositions, openmetrics=openmetrics)
        return Response(body, headers={"content-type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})

    return router
