"""Requests that wait for admission, in the key-value store of Ray's GCS.

Ingress replicas write how many tokens they are, Serve's controller reads it.
"""

from __future__ import annotations

import json
import time

from ray.experimental import internal_kv

from serving.cluster.autoscaling import Queued

_NAMESPACE = b"gpt-oss-serving"
_VALID_S = 10.0
"""An ingress replica writes once a second while anything waits; what one left behind that is gone counts no more."""


def publish(model: str, ingress: str, queued: Queued, timeout_s: float) -> None:
    """Publish what waits at one ingress replica. Blocks; raises RayError or TimeoutError."""
    value = {
        "at": time.time(),
        "tokens": queued.tokens,
        "sequences": queued.sequences,
        "longest_wait_s": queued.longest_wait_s,
    }
    client = internal_kv.internal_kv_get_gcs_client()
    client.internal_kv_put(_key(model, ingress), json.dumps(value).encode(), True, _NAMESPACE, timeout_s)


def withdraw(model: str, ingress: str, timeout_s: float) -> None:
    """Take back what was published. Blocks; raises likewise."""
    client = internal_kv.internal_kv_get_gcs_client()
    client.internal_kv_del(_key(model, ingress), False, _NAMESPACE, timeout_s)


def queued_now(model: str, timeout_s: float) -> Queued:
    """Requests that wait at all ingress replicas together. Blocks; for Serve's controller. Raises likewise."""
    client = internal_kv.internal_kv_get_gcs_client()
    keys = client.internal_kv_keys(_key(model, ""), _NAMESPACE, timeout_s)
    if not keys:
        return Queued()
    found = client.internal_kv_multi_get(keys, _NAMESPACE, timeout_s)
    now = time.time()
    return sum((read_queued(value, now) for value in found.values()), Queued())


def read_queued(value: bytes, now: float) -> Queued:
    """Decode what publish() has written; nothing for what is old, and for what cannot be decoded."""
    try:
        read = json.loads(value)
        if not 0 <= now - float(read["at"]) <= _VALID_S:
            return Queued()
        return Queued(float(read["tokens"]), int(read["sequences"]), float(read["longest_wait_s"]))
    except (ValueError, TypeError, KeyError):
        return Queued()


def _key(model: str, ingress: str) -> bytes:
    return f"queued:{model}\n{ingress}".encode()
