"""The replicas that Serve routes to, as its routers in this process know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from serving.tenancy.flow_control.fleet import FleetSize


class ClusterFleet:
    """See Fleet. `engines` are the handles of the models' deployments, `ingress` is that of the caller's own.

    `sequences` tells how many sequences a model's engine has said that it decodes together, None before it has.

    Serve's controller tells each router about every replica that comes or goes, and a router drops one that died as
    soon as a call fails. Asking the controller (serve.status()) would cost it a walk over all replicas for each
    ingress replica that asks.
    """

    def __init__(
        self,
        engines: Mapping[str, DeploymentHandle],
        ingress: DeploymentHandle,
        sequences: Mapping[str, Callable[[], int | None]],
    ) -> None:
        self._engines = engines
        self._sequences = sequences
        # A handle listens from its first use on, and nobody calls the ingress by this one.
        self._ingress = ingress.options()

    def size(self) -> FleetSize:
        """See Fleet."""
        engines = {model: running_replicas(handle) for model, handle in self._engines.items()}
        sequences = {model: ask() for model, ask in self._sequences.items()}
        return FleetSize(_known(engines), running_replicas(self._ingress), _known(sequences))


def _known(numbers: Mapping[str, int | None]) -> dict[str, int]:
    return {model: number for model, number in numbers.items() if number is not None}


class ServeReplicas:
    """See Replicas. Serve's autoscaler loads and unloads by the policy in scaling.py, so want() has nothing to do."""

    def __init__(self, handles: Mapping[str, DeploymentHandle]) -> None:
        self._handles = handles
        for handle in handles.values():
            handle.options()  # as above: a model that is not loaded may not be called for a long time

    def running(self, model: str) -> int | None:
        """See Replicas."""
        return running_replicas(self._handles[model])

    def want(self, model: str, loaded: bool) -> None:
        """See Replicas."""

    async def close(self) -> None:
        """See Replicas."""


class RoutedReplicas:
    """See ReplicaList: the replicas that the router of `handle` knows of.

    No public name tells of them, nor takes a call that Serve does not make into account
    (ray/serve/_private/router.py, AsyncioRouter and RouterMetricsManager, Ray 2.60). Serve scales by what its handles
    count, so that it sees no difference between its own calls and those that are counted here.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def listed(self) -> Mapping[Any, Mapping[str, Any]] | None:
        """See ReplicaList."""
        replicas = _replicas(self._handle)
        return None if replicas is None else {key: each.replica_metadata for key, each in list(replicas.items())}

    def takes_calls(self, replica: Any) -> bool:
        """See ReplicaList."""
        replicas = _replicas(self._handle)
        return replicas is not None and replica in replicas

    def began(self, replica: Any) -> None:
        """See ReplicaList."""
        self._counts().inc_num_running_requests_for_replica(replica)

    def ended(self, replica: Any) -> None:
        """See ReplicaList."""
        self._counts().dec_num_running_requests_for_replica(replica)

    def _counts(self) -> Any:
        router: Any = self._handle._router
        return router._asyncio_router._metrics_manager


def running_replicas(handle: DeploymentHandle) -> int | None:
    """Number of running replicas; None before the router has heard of any."""
    replicas = _replicas(handle)
    return None if replicas is None else len(replicas)


def _replicas(handle: DeploymentHandle) -> Mapping[Any, Any] | None:
    if not handle.running_replicas_populated():
        return None
    # No public name tells of them: ray/serve/_private/router.py, AsyncioRouter.
    router: Any = handle._router
    request_router = router._asyncio_router.request_router
    if request_router is None:
        return None
    replicas: Mapping[Any, Any] = request_router.curr_replicas
    return replicas
