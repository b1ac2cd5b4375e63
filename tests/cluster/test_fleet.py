"""What Serve's routers know of replicas. Serve's side is played; tests/e2e has it live."""

from __future__ import annotations

from types import SimpleNamespace

from ray.serve._private.request_router import RequestRouter
from ray.serve._private.router import AsyncioRouter

from serving.cluster.fleet import ClusterFleet
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
