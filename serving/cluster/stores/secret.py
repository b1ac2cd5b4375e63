"""A secret that all ingress replicas of a cluster share, in the key-value store of Ray's GCS.

The first replica that needs it makes it at random; it is gone with the cluster's head.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ray.exceptions import RayError
from ray.experimental import internal_kv

from serving.errors import StoreUnavailableError
from serving.sealing import SECRET_BYTES

_NAMESPACE = b"gpt-oss-serving"
_NAME = b"secret"
_TIMEOUT_S = 5
_RETRY_AFTER_S = 2.0


async def cluster_secret() -> bytes:
    """The secret, 32 bytes; raises StoreUnavailableError."""
    try:
        return await asyncio.to_thread(_found_or_made)
    except (RayError, TimeoutError) as error:
        raise StoreUnavailableError(
            "Ray's store, which has the key of encrypted reasoning, cannot be reached now.",
            retry_after_s=_RETRY_AFTER_S,
        ) from error


def _found_or_made() -> bytes:
    client: Any = internal_kv.internal_kv_get_gcs_client()
    found: bytes | None = client.internal_kv_get(_NAME, _NAMESPACE, _TIMEOUT_S)
    if found is None:
        # Without overwriting: of two replicas the first one's stays, and both read that.
        client.internal_kv_put(_NAME, os.urandom(SECRET_BYTES), False, _NAMESPACE, _TIMEOUT_S)
        found = client.internal_kv_get(_NAME, _NAMESPACE, _TIMEOUT_S)
    if found is None:
        raise TimeoutError("the secret was put and is not there")
    return found
