"""What Serve's routers know of replicas. Serve's side is played; tests/e2e has it live."""

from __future__ import annotations

import threading
from collections import defaultdict
from types import SimpleNamespace

from ray.serve._private.constants import (
    RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE,
    RECORD_REPLICA_METADATA_METHOD,
)
from ray.serve._private.request_router import RequestRouter
from ray.serve._private.request_router.replica_wrapper import RunningReplica
from ray.serve._private.router import AsyncioRouter, RouterMetricsManager

from serving.cluster.engine_replica import EngineReplica
from serving.cluster.fleet import ClusterFleet, RoutedReplicas
from serving.tenancy.flow_control.fleet import FleetSize


class Handle:
    """A DeploymentHandle whose router has heard of `replicas`; None: of none so far."""

    def __init__(self, replicas: int | None) -> None:
        self.replicas = replicas
        self.used = False

    def options(self) -> Handle:
        self.used = True
        return self

    def running_replicas_populated(self) -> bool:
        return self.replicas is not None

    @property
    def _router(self) -> SimpleNamespace:
        replicas = dict.fromkeys(range(self.replicas or 0))
        return SimpleNamespace(_asyncio_router=SimpleNamespace(request_router=SimpleNamespace(curr_replicas=replicas)))


def test_replicas_are_counted_by_model_and_unknown_ones_left_out() -> None:
    small, big, new = Handle(2), Handle(0), Handle(None)
    ingress = Handle(None)
    fleet = ClusterFleet({"small": small, "big": big, "new": new}, ingress, {"small": lambda: 64, "new": lambda: None})
    assert fleet.size() == FleetSize({"small": 2, "big": 0}, None, {"small": 64})
    ingress.replicas, new.replicas = 3, 1
    assert fleet.size() == FleetSize({"small": 2, "big": 0, "new": 1}, 3, {"small": 64})


def test_the_ingress_is_listened_to_though_nobody_calls_it() -> None:
    ingress = Handle(1)
    ClusterFleet({}, ingress, {})
    assert ingress.used


def test_the_pinned_serve_has_the_names_that_are_read() -> None:
    assert isinstance(AsyncioRouter.request_router, property)
    assert isinstance(RequestRouter.curr_replicas, property)
    assert isinstance(RunningReplica.replica_metadata, property)
    assert hasattr(EngineReplica, RECORD_REPLICA_METADATA_METHOD)
    # Where replicas counted by themselves, calls that Serve does not see would not be among them
    assert RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE


class Routed:
    """A handle with Serve's own count of calls under way, and two replicas."""

    def __init__(self) -> None:
        self.counts = object.__new__(RouterMetricsManager)
        self.counts.num_requests_sent_to_replicas = defaultdict(int)
        self.counts._queries_lock = threading.Lock()
        self.counts._cached_metrics_enabled = True
        self.replicas = {
            "one": SimpleNamespace(replica_metadata={"frames": 1}),
            "two": SimpleNamespace(replica_metadata={}),
        }
        request_router = SimpleNamespace(curr_replicas=self.replicas)
        self._router = SimpleNamespace(
            _asyncio_router=SimpleNamespace(request_router=request_router, _metrics_manager=self.counts)
        )

    def running_replicas_populated(self) -> bool:
        return True


def test_calls_over_connections_are_in_the_count_that_serve_scales_by() -> None:
    handle = Routed()
    routed = RoutedReplicas(handle)
    assert routed.listed() == {"one": {"frames": 1}, "two": {}}
    for replica in ("one", "two", "one"):
        routed.began(replica)
    assert handle.counts.num_requests_sent_to_replicas == {"one": 2, "two": 1}
    # When a replica goes while it has calls, they stay counted until they end
    del handle.replicas["one"]
    assert not routed.takes_calls("one")
    assert routed.takes_calls("two")
    for replica in ("one", "two", "one"):
        routed.ended(replica)
    assert set(handle.counts.num_requests_sent_to_replicas.values()) == {0}


def test_nothing_is_listed_before_the_router_has_heard_of_a_replica() -> None:
    assert RoutedReplicas(Handle(None)).listed() is None
    assert not RoutedReplicas(Handle(None)).takes_calls("one")
