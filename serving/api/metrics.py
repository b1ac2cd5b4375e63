"""GET /metrics: what every process of the service counts, in one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.telemetry.exposition import OPENMETRICS_TYPE, TEXT_TYPE, MetricsSource, merge

PATH = "/metrics"

Guard = Callable[[Request], Awaitable[None]]
"""Raises an ApiError for callers that may not see what it guards."""


async def open_to_all(request: Request) -> None:
    """The guard of a service that has no keys."""


def metrics_router(source: MetricsSource, guard: Guard) -> APIRouter:
    """The route; `guard` is asked before anything is collected."""
    router = APIRouter(tags=["operations"])

    @router.get(PATH, summary="Metrics of every process, for Prometheus")
    async def metrics(request: Request) -> Response:
        await guard(request)
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        expositions = await source.collect(openmetrics=openmetrics)
        # Long with many replicas, and not one step: others get their turn.
        body = await asyncio.to_thread(merge, expositions, openmetrics=openmetrics)
        return Response(body, headers={"content-type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE})

    return router
