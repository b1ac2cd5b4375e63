"""A store in one actor of the cluster, shared by all ingress replicas and outliving each of them.

The actor keeps it in memory: it is gone when its node is, and Ray then starts it again, empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

import ray
from ray.exceptions import RayError, RayTaskError

from serving.cluster.names import APPLICATION
from serving.errors import StoreUnavailableError
from serving.settings.tree import Settings
from serving.store.base import Store, StoreLimits, check_size
from serving.store.from_settings import StoreName, limits, redis_store
from serving.store.memory import MemoryStore

_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 2.0


def open_store(settings: Settings) -> Store:
    """The store of responses that the settings ask for. Nothing is connected to before the first call."""
    if settings.responses.backend == "redis":
        return redis_store(settings, "responses")
    return ActorStore("responses", limits(settings.responses))


def open_answer_store(settings: Settings) -> Store:
    """The store of the answer cache, which the settings ask for. Nothing is connected to before the first call."""
    match settings.cache.backend:
        case "redis":
            return redis_store(settings, "cache")
        case "cluster":
            return ActorStore("cache", limits(settings.cache))
        case _:
            return MemoryStore(limits(settings.cache))


def stop_stores() -> None:
    """End the actors, and with them everything stored; for a cluster that goes on without the application."""
    for name in get_args(StoreName):
        try:
            actor = ray.get_actor(_actor_name(name), namespace=APPLICATION)
        except ValueError:
            continue  # Ray's word for: no such actor
        ray.kill(actor, no_restart=True)


def _actor_name(name: StoreName) -> str:
    return f"store-{name}"


class StoreActor:
    """Actor of a store: a MemoryStore with its limits."""

    def __init__(self, store_limits: StoreLimits) -> None:
        self._store = MemoryStore(store_limits)

    async def limit(self, store_limits: StoreLimits) -> None:
        """Take new limits; what is stored stays, as far as they allow."""
        self._store.limits = store_limits

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        return await self._store.get_many(owner, keys)

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """See Store."""
        await self._store.put(owner, key, value)

    async def replace(self, owner: str, key: str, before: bytes | None, value: bytes) -> bool:
        """See Store."""
        return await self._store.replace(owner, key, before, value)

    async def delete(self, owner: str, key: str) -> bool:
        """See Store."""
        return await self._store.delete(owner, key)

    async def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See Store."""
        return await self._store.claim(name, holder, ttl_s)

    async def release(self, name: str, holder: str) -> None:
        """See Store."""
        await self._store.release(name, holder)


class ActorStore:
    """See Store. Finds the actor, or has Ray start it, at the first call and again after the actor was lost."""

    def __init__(self, name: StoreName, store_limits: StoreLimits) -> None:
        self._name = name
        self._limits = store_limits
        self._actor: Any = None
        self._finding = asyncio.Lock()

    async def get(self, owner: str, key: str) -> bytes | None:
        """See Store."""
        return (await self.get_many(owner, [key]))[0]

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        """See Store."""
        if not keys:
            return []
        found: list[bytes | None] = await self._call("get_many", owner, list(keys))
        return found

    async def put(self, owner: str, key: str, value: bytes) -> None:
        """See Store."""
        # Here, because an error of the actor's comes wrapped in one of Ray's.
        check_size(value, self._limits)
        await self._call("put", owner, key, value)

    async def replace(self, owner: str, key: str, before: bytes | None, value: bytes) -> bool:
        """See Store."""
        check_size(value, self._limits)
        return bool(await self._call("replace", owner, key, before, value))

    async def delete(self, owner: str, key: str) -> bool:
        """See Store."""
        return bool(await self._call("delete", owner, key))

    async def claim(self, name: str, holder: str, ttl_s: float) -> bool:
        """See Store."""
        return bool(await self._call("claim", name, holder, ttl_s))

    async def release(self, name: str, holder: str) -> None:
        """See Store."""
        await self._call("release", name, holder)

    async def close(self) -> None:
        """See Store. The actor goes on for the other replicas."""
        self._actor = None

    async def _call(self, method: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                actor = await self._found()
                return await getattr(actor, method).remote(*arguments)
        except RayTaskError:
            raise  # a bug of ours in the actor
        except (RayError, TimeoutError) as error:
            # It may be starting again, or may have been killed for good; then there is a new one to be found.
            self._actor = None
            raise StoreUnavailableError(
                "The server's store cannot be reached now. What needs nothing stored goes on working.",
                retry_after_s=_RETRY_AFTER_S,
            ) from error

    async def _found(self) -> Any:
        async with self._finding:
            if self._actor is None:
                # Both ask Ray's head node and wait for it.
                self._actor = await asyncio.to_thread(_find_or_start, self._name, self._limits)
                await self._actor.limit.remote(self._limits)
            return self._actor


def _find_or_start(name: StoreName, store_limits: StoreLimits) -> Any:
    actor = ray.remote(StoreActor).options(
        name=_actor_name(name),
        namespace=APPLICATION,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
    )
    return actor.remote(store_limits)
