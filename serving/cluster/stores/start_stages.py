"""Stages of engine replicas' starts, published through Ray's key-value store.

Serve routes no call to a replica that is still being constructed, so nobody can ask the replica itself.
"""

from __future__ import annotations

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

_NAMESPACE = b"gpt-oss-serving"
STAGES = ("model", "engine import", "weights", "warm-up", "ready")


def report(model: str, stage: str) -> None:
    """Say that a replica of `model` has entered `stage`; the last one to speak is heard."""
    _internal_kv_put(f"stage/{model}".encode(), stage.encode(), overwrite=True, namespace=_NAMESPACE)


def reported(model: str) -> str | None:
    """The last stage that a replica of `model` has entered; None before the first."""
    value = _internal_kv_get(f"stage/{model}".encode(), namespace=_NAMESPACE)
    return None if value is None else value.decode()
