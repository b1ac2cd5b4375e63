"""Starts of engine replicas that failed, told through Ray's key-value store: a replica that failed answers nobody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ray.exceptions import RayError
from ray.experimental import internal_kv

from serving.engine.start_failure import START_FAILURE_REASONS, FailedStarts, StartFailure

logger = logging.getLogger(__name__)

_NAMESPACE = b"gpt-oss-serving"
_WRITE_TIMEOUT_S = 5
_READ_TIMEOUT_S = 1  # a scrape waits for it


def record(model: str, failure: StartFailure) -> StartFailure:
    """Keep the last failure of `model` and count it; returns it with how many alike came one after the other.

    Two replicas of a model that fail in the same instant may be counted as one. Blocks; raises RayError or
    TimeoutError.
    """
    known = _read([model], _WRITE_TIMEOUT_S)[model]
    if known.last is not None and known.last.kind == failure.kind:
        failure = replace(failure, in_a_row=known.last.in_a_row + 1)
    _put(_last(model), json.dumps(asdict(failure)))
    totals = dict(known.totals)
    totals[failure.reason] = totals.get(failure.reason, 0) + 1
    _put(_totals(model), json.dumps(totals))
    return failure


def recorded(model: str) -> StartFailure | None:
    """The last failure of `model`; None where none was since it was cleared. Blocks, raises likewise."""
    return _read([model], _WRITE_TIMEOUT_S)[model].last


def clear(model: str) -> None:
    """Forget the last failure of `model`: a start went well, or a new attempt begins. Blocks, raises likewise."""
    _client().internal_kv_del(_last(model), False, _NAMESPACE, _WRITE_TIMEOUT_S)


def forget(model: str) -> None:
    """Keep nothing of a model; for a cluster that goes on without the application. Blocks, raises likewise."""
    for key in (_last(model), _totals(model)):
        _client().internal_kv_del(key, False, _NAMESPACE, _WRITE_TIMEOUT_S)


class ClusterStartFailures:
    """See StartFailures."""

    async def read(self, models: Sequence[str]) -> Mapping[str, FailedStarts]:
        """See StartFailures."""
        try:
            return await asyncio.to_thread(_read, models, _READ_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            logger.warning("starts that failed cannot be read now: %s", error)
            return {}


def decoded(last: bytes | None, totals: bytes | None) -> FailedStarts:
    """Decode the value that record() has written; an empty one if another version of ours wrote it."""
    try:
        failure = None if last is None else StartFailure(**json.loads(last))
        counts = json.loads(totals or b"{}")
        return FailedStarts(
            failure, {reason: int(counts[reason]) for reason in START_FAILURE_REASONS if reason in counts}
        )
    except (ValueError, TypeError):
        return FailedStarts()


def _read(models: Sequence[str], timeout_s: float) -> dict[str, FailedStarts]:
    keys = [key for model in models for key in (_last(model), _totals(model))]
    found: dict[bytes, bytes] = _client().internal_kv_multi_get(keys, _NAMESPACE, timeout_s)
    return {model: decoded(found.get(_last(model)), found.get(_totals(model))) for model in models}


def _put(key: bytes, value: str) -> None:
    _client().internal_kv_put(key, value.encode(), True, _NAMESPACE, _WRITE_TIMEOUT_S)


def _last(model: str) -> bytes:
    return f"start-failure:last:{model}".encode()


def _totals(model: str) -> bytes:
    return f"start-failure:totals:{model}".encode()


def _client() -> Any:
    return internal_kv.internal_kv_get_gcs_client()
