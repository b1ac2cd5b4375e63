"""Stores of limits and usage in one actor of the cluster, which all ingress replicas share and none outlives.

The actor keeps both in memory: they are lost with its node, and Ray then starts the actor again, empty. Deployments
whose limits and usage must outlive that name Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from serving.cluster.names import APPLICATION
from serving.errors import StoreUnavailableError
from serving.settings.tree import Settings
from serving.tenancy.rate_limits.base import Acquisition, Denied, Granted, LimitStore, Report
from serving.tenancy.rate_limits.memory import MemoryLimitStore
from serving.tenancy.tenancy import make_limit_store
from serving.tenancy.usage.base import UsageRow, UsageStore
from serving.tenancy.usage.from_settings import make_usage_store
from serving.tenancy.usage.memory import MemoryUsageStore

_NAME = "tenancy"
_START_TIMEOUT_S = 60.0
_TIMEOUT_S = 2.0
_RETRY_AFTER_S = 2.0


def open_limits(settings: Settings) -> LimitStore:
    """Make the limit store that the settings name. Connects to nothing before the first call."""
    return make_limit_store(settings, time.time) if settings.limits.backend == "redis" else ActorLimitStore()


def open_usage(settings: Settings) -> UsageStore:
    """Make the usage store that the settings name. Connects to nothing before the first call."""
    return ActorUsageStore() if settings.usage.backend == "memory" else make_usage_store(settings)


def stop_limits() -> None:
    """Stop the actor, for a cluster that goes on without the application."""
    try:
        actor = ray.get_actor(_NAME, namespace=APPLICATION)
    except ValueError:
        return  # Ray has no such actor
    ray.kill(actor, no_restart=True)


class TenancyActor:
    """Actor with a MemoryLimitStore and a MemoryUsageStore."""

    def __init__(self) -> None:
        self._limits = MemoryLimitStore(time.time)
        self._usage = MemoryUsageStore()

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """See LimitStore."""
        return await self._limits.acquire(acquisition)

    async def report(self, reports: Sequence[Report]) -> None:
        """See LimitStore."""
        await self._limits.report(reports)

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """See LimitStore."""
        await self._limits.seed(used)

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        await self._usage.add(rows)

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        return await self._usage.read(first_day, last_day)

    async def forget(self, before_day: str) -> None:
        """See UsageStore."""
        await self._usage.forget(before_day)


class _Caller:
    """Caller of the actor; finds it, or has Ray start it, at the first call and after the actor was lost."""

    def __init__(self) -> None:
        self._actor: Any = None
        self._finding = asyncio.Lock()

    async def call(self, method: str, *arguments: object) -> Any:
        try:
            # A process that starts takes seconds, one that is there less than a millisecond.
            async with asyncio.timeout(_START_TIMEOUT_S):
                actor = await self._found()
            async with asyncio.timeout(_TIMEOUT_S):
                return await getattr(actor, method).remote(*arguments)
        except RayTaskError:
            raise  # a bug of ours in the actor
        except (RayError, TimeoutError) as error:
            # It may be starting again, or may have been killed for good; then there is a new one to be found.
            self._actor = None
            raise StoreUnavailableError(
                "What the server's replicas share cannot be reached now.", retry_after_s=_RETRY_AFTER_S
            ) from error

    async def _found(self) -> Any:
        async with self._finding:
            if self._actor is None:
                # Asks Ray's head node and waits for it.
                actor = await asyncio.to_thread(_find_or_start)
                await actor.forget.remote("")  # answered once it has started
                self._actor = actor
            return self._actor


class ActorLimitStore:
    """LimitStore in the actor."""

    def __init__(self) -> None:
        self._caller = _Caller()

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """See LimitStore."""
        outcome: Granted | Denied = await self._caller.call("acquire", acquisition)
        return outcome

    async def report(self, reports: Sequence[Report]) -> None:
        """See LimitStore."""
        await self._caller.call("report", list(reports))

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """See LimitStore."""
        await self._caller.call("seed", dict(used))

    async def close(self) -> None:
        """See LimitStore. The actor goes on for the other replicas."""


class ActorUsageStore:
    """UsageStore in the actor."""

    def __init__(self) -> None:
        self._caller = _Caller()

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        await self._caller.call("add", list(rows))

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        found: list[UsageRow] = await self._caller.call("read", first_day, last_day)
        return found

    async def forget(self, before_day: str) -> None:
        """See UsageStore."""
        await self._caller.call("forget", before_day)

    async def close(self) -> None:
        """See UsageStore. The actor goes on for the other replicas."""


def _find_or_start() -> Any:
    actor = ray.remote(TenancyActor).options(
        name=_NAME,
        namespace=APPLICATION,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
    )
    return actor.remote()
