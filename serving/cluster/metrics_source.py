"""Metrics of every replica in the cluster, asked for at each scrape."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serving.telemetry.exposition import Exposition

logger = logging.getLogger(__name__)

# Half a second is left for the network, for merging and for sending.
_DEADLINE_S = 1.5

UNKNOWN_REPLICA = "unknown"
"""The label of a replica that has not answered us even once."""


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """One replica's answer: its id, which Serve makes anew for each one it starts, and its exposition."""

    replica: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A deployment whose replicas have a method `metrics(openmetrics) -> ReplicaMetrics`."""

    deployment: str
    handle: DeploymentHandle
    labels: Mapping[str, str]


def replica_labels() -> dict[str, str]:
    """The deployment and the id of the replica that calls this."""
    replica = serve.get_replica_context().replica_id
    return {"deployment": replica.deployment_id.name, "replica": replica.unique_id}


class ClusterMetrics:
    """A MetricsSource. `deployments` is asked for on every scrape, since handles exist only once Serve runs.

    A replica that fails or is silent is left out, and named while Serve still counts it among the running ones.
    """

    def __init__(self, deployments: Callable[[], Iterable[Asked]], *, deadline_s: float = _DEADLINE_S) -> None:
        self._deployments = deployments
        self._deadline_s = deadline_s
        self._seen: dict[str, set[str]] = {}

    async def collect(self, *, openmetrics: bool) -> list[Exposition]:
        """See MetricsSource."""
        found = await asyncio.gather(*(self._ask(asked, openmetrics) for asked in self._deployments()))
        return [exposition for expositions in found for exposition in expositions]

    async def _ask(self, asked: Asked, openmetrics: bool) -> list[Exposition]:
        answers, silent = await _broadcast(asked, openmetrics, self._deadline_s)
        answered = {answer.replica for answer in answers}
        missing = sorted(self._seen.get(asked.deployment, set()) - answered)[:silent]
        missing += [UNKNOWN_REPLICA] * (silent > len(missing))
        # Whom Serve no longer lists has ended, as have its series.
        self._seen[asked.deployment] = answered | set(missing) - {UNKNOWN_REPLICA}
        common = {"deployment": asked.deployment, **asked.labels}
        return [
            *(Exposition({**common, "replica": answer.replica}, answer.body) for answer in answers),
            *(Exposition({**common, "replica": replica}, None) for replica in missing),
        ]


async def _broadcast(asked: Asked, openmetrics: bool, deadline_s: float) -> tuple[list[ReplicaMetrics], int]:
    """The answers there are in time, and how many replicas gave none; none at all where Serve runs no replica."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    calls: list[Any] = []
    try:
        async with asyncio.timeout_at(deadline):
            # The public results_async() waits for the slowest replica, and loses all answers when that one is stuck.
            calls = await asked.handle.broadcast("metrics", openmetrics)._fetch_replica_results_async()
    except (RayError, RayServeException, TimeoutError) as error:
        logger.debug("no replica of %s could be asked: %r", asked.deployment, error)
    if not calls:
        return [], 0
    waiting = {asyncio.ensure_future(_answer(call.get_async())): call for call in calls}
    done, late = await asyncio.wait(waiting, timeout=max(0.0, deadline - loop.time()))
    for task in late:
        waiting[task].cancel()
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    answers = [answer for task in done if (answer := task.result()) is not None]
    return answers, len(calls) - len(answers)


async def _answer(call: Awaitable[ReplicaMetrics]) -> ReplicaMetrics | None:
    try:
        return await call
    except (RayError, RayServeException) as error:
        logger.debug("a replica did not give its metrics: %r", error)
        return None
