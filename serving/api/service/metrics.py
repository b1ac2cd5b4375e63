"""GET /metrics: what every process of the service counts, in one answer."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.telemetry.exposition import OPENMETRICS_TYPE, TEXT_TYPE, MetricsSource, merge

PATH = "/metrics"


def metrics_router(source: MetricsSource) -> APIRouter:
    """The route; Authentication, outside, asks for the administrator's key where there are keys."""
    router = APIRouter(tags=["operations"])

    @router.get(PATH, summary="Metrics of every process, for Prometheus")
    async def metrics(request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        expositions = await source.collect(openmetrics=openmetrics)
        # Long with many replicas, and not one step: others get their turn.
        body = await asyncio.to_thread(merge, expositions, openmetrics=openmetrics)
        return Response(body, headers={"content-type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})

    return router
