"""Collecting metrics where replicas answer, fail, hang and come anew. Serve's side is played; tests/e2e has it live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ray.exceptions import ActorUnavailableError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentBroadcastResponse

from serving.cluster.metrics_source import Asked, ClusterMetrics, ReplicaMetrics

Behaviour = Callable[[], Awaitable[ReplicaMetrics]]


def answers(replica: str) -> Behaviour:
    async def answer() -> ReplicaMetrics:
        return ReplicaMetrics(replica, b"# HELP a b\n# TYPE a gauge\na 1\n")

    return answer


async def dies() -> ReplicaMetrics:
    raise ActorUnavailableError("gone", None)


async def hangs() -> ReplicaMetrics:
    await asyncio.Event().wait()
    raise AssertionError("never")


class Call:
    """A ReplicaResult of Serve's."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.cancelled = False

    async def get_async(self) -> ReplicaMetrics:
        return await self._behaviour()

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A DeploymentHandle whose replicas are `replicas`, as long as nothing else is said."""

    def __init__(self, *replicas: Behaviour) -> None:
        self.replicas = replicas
        self.calls: list[Call] = []

    def broadcast(self, method: str, openmetrics: bool) -> DeploymentBroadcastResponse:
        assert method == "metrics"
        return DeploymentBroadcastResponse(self._send(), None)

    async def _send(self) -> list[Call]:
        if not self.replicas:
            raise DeploymentUnavailableError(DeploymentID(name="engine-demo"))
        self.calls = [Call(replica) for replica in self.replicas]
        return self.calls


def source(handle: Handle, deadline_s: float = 5.0) -> ClusterMetrics:
    return ClusterMetrics(lambda: [Asked("engine-demo", handle, {"model": "demo"})], deadline_s=deadline_s)


async def ups(metrics: ClusterMetrics) -> dict[str, bool]:
    found = await metrics.collect(openmetrics=False)
    assert all(each.labels["deployment"] == "engine-demo" and each.labels["model"] == "demo" for each in found)
    return {each.labels["replica"]: each.body is not None for each in found}


async def test_every_replica_answers_under_its_own_name() -> None:
    assert await ups(source(Handle(answers("a"), answers("b")))) == {"a": True, "b": True}


async def test_a_replica_that_died_is_named_and_does_no_harm_to_the_rest() -> None:
    handle = Handle(answers("a"), answers("b"))
    metrics = source(handle)
    await ups(metrics)
    handle.replicas = (answers("a"), dies)
    assert await ups(metrics) == {"a": True, "b": False}


async def test_a_replica_that_hangs_is_given_up_at_the_deadline_and_its_call_is_cancelled() -> None:
    handle = Handle(answers("a"), hangs)
    assert await ups(source(handle, deadline_s=0.05)) == {"a": True, "unknown": False}
    assert [call.cancelled for call in handle.calls] == [False, True]


async def test_a_replica_that_hung_comes_back() -> None:
    handle = Handle(answers("a"))
    metrics = source(handle, deadline_s=0.05)
    await ups(metrics)
    handle.replicas = (hangs,)
    assert await ups(metrics) == {"a": False}
    assert await ups(metrics) == {"a": False}
    handle.replicas = (answers("a"),)
    assert await ups(metrics) == {"a": True}


async def test_a_replica_that_serve_retired_is_forgotten() -> None:
    handle = Handle(answers("a"), answers("b"))
    metrics = source(handle)
    await ups(metrics)
    handle.replicas = (answers("c"),)
    assert await ups(metrics) == {"c": True}


async def test_a_deployment_without_replicas_has_no_series() -> None:
    assert await ups(source(Handle())) == {}
