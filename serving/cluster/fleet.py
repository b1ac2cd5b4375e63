"""The replicas that Serve routes to, as its routers in this process know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from serving.tenancy.fleet import FleetSize


class ClusterFleet:
    """See Fleet. `engines` are the handles of the models' deployments, `ingress` is that of the caller's own.

    Serve's controller tells each router about every replica that comes or goes, and a router drops one that died as
    soon as a call fails. Asking the controller (serve.status()) would cost it a walk over all replicas for each
    ingress replica that asks.
    """

    def __init__(self, engines: Mapping[str, DeploymentHandle], ingress: DeploymentHandle) -> None:
        self._engines = engines
        # A handle listens from its first use on, and nobody calls the ingress by this one.
        self._ingress = ingress.options()

    def size(self) -> FleetSize:
        """See Fleet."""
        engines = {model: _running(handle) for model, handle in self._engines.items()}
        return FleetSize(
            {model: count for model, count in engines.items() if count is not None}, _running(self._ingress)
        )


def _running(handle: DeploymentHandle) -> int | None:
    """How many replicas run; None before the router has heard of any."""
    if not handle.running_replicas_populated():
        return None
    # No public name tells the number: ray/serve/_private/router.py, AsyncioRouter.
    router: Any = handle._router
    request_router = router._asyncio_router.request_router
    return None if request_router is None else len(request_router.curr_replicas)
