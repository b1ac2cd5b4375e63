"""Lifecycle store in the key-value store of Ray's GCS: ingress replicas write it, Serve's controller reads it.

The GCS outlives every replica, and the controller waits for no actor of ours.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from ray.exceptions import RayError
from ray.experimental import internal_kv

from serving.engine.lifecycle.state import Cause
from serving.engine.lifecycle.store import Kept, Wanted
from serving.errors import StoreUnavailableError

_NAMESPACE = b"gpt-oss-serving"
_TIMEOUT_S = 5
_RETRY_AFTER_S = 2.0


class ClusterLifecycleStore:
    """See LifecycleStore."""

    async def read(self, models: Iterable[str]) -> Mapping[str, Kept]:
        """See LifecycleStore. All of them in one call."""
        models = list(models)
        keys = [key for model in models for key in (_wanted(model), _used(model), _replicas(model))]
        found: dict[bytes, bytes] = await _call("internal_kv_multi_get", keys, _NAMESPACE, _TIMEOUT_S)
        return {
            model: Kept(
                read_wanted(found.get(_wanted(model))),
                _number(found.get(_used(model))),
                None if (count := _number(found.get(_replicas(model)))) is None else int(count),
            )
            for model in models
        }

    async def want(self, model: str, wanted: Wanted) -> None:
        """See LifecycleStore."""
        value = {"loaded": wanted.loaded, "cause": wanted.cause, "since": wanted.since}
        await _put(_wanted(model), json.dumps(value).encode())

    async def use(self, model: str, at: float) -> None:
        """See LifecycleStore."""
        await _put(_used(model), repr(at).encode())


def wanted_now(model: str, timeout_s: float) -> Wanted | None:
    """The wanted state of a model. Blocks; for Serve's controller. Raises RayError or TimeoutError."""
    return read_wanted(_client().internal_kv_get(_wanted(model), _NAMESPACE, timeout_s))


def keep_replicas(model: str, count: int, timeout_s: float) -> None:
    """Publish the number of replicas that a model is to have. Blocks; for Serve's controller. Raises likewise."""
    _client().internal_kv_put(_replicas(model), repr(count).encode(), True, _NAMESPACE, timeout_s)


def replicas_at_first(model: str, fewest: int, most: int) -> int:
    """Number of replicas that a deployment begins with: as many as it has if it runs, 0 if it is to be unloaded.

    Blocks; for the builder of the graph, with or without a cluster.
    """
    if not internal_kv._internal_kv_initialized():
        return fewest
    wanted = wanted_now(model, _TIMEOUT_S)
    if wanted is not None and not wanted.loaded:
        return 0
    count = _number(_client().internal_kv_get(_replicas(model), _NAMESPACE, _TIMEOUT_S))
    return fewest if count is None else min(most, max(fewest, int(count)))


def forget(model: str) -> None:
    """Keep nothing of a model; for a cluster that goes on without the application. Blocks."""
    for key in (_wanted(model), _used(model), _replicas(model)):
        _client().internal_kv_del(key, False, _NAMESPACE, _TIMEOUT_S)


def read_wanted(value: bytes | None) -> Wanted | None:
    """Decode the value that want() has written; None for no value and for one that cannot be decoded."""
    try:
        read = json.loads(value or b"null")
        cause = next(cause for cause in get_args(Cause) if cause == read["cause"])
        return Wanted(bool(read["loaded"]), cause, float(read["since"]))
    except (ValueError, TypeError, KeyError, StopIteration):
        return None


def _wanted(model: str) -> bytes:
    return f"life:wanted:{model}".encode()


def _used(model: str) -> bytes:
    return f"life:used:{model}".encode()


def _replicas(model: str) -> bytes:
    return f"life:replicas:{model}".encode()


def _number(value: bytes | None) -> float | None:
    return None if value is None else float(value)


def _client() -> Any:
    return internal_kv.internal_kv_get_gcs_client()


async def _put(key: bytes, value: bytes) -> None:
    await _call("internal_kv_put", key, value, True, _NAMESPACE, _TIMEOUT_S)


async def _call(method: str, *arguments: object) -> Any:
    try:
        return await asyncio.to_thread(functools.partial(getattr(_client(), method), *arguments))
    except (RayError, TimeoutError) as error:
        raise StoreUnavailableError(
            "Ray's store, which says what models are wanted, cannot be reached now.", retry_after_s=_RETRY_AFTER_S
        ) from error
