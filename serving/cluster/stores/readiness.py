"""Memory of the models that have had a ready engine since this Ray cluster began; Ray keeps it for all replicas.

An ingress replica that begins while engines are being replaced has never seen one. With this it knows that one will
come back, and holds requests instead of refusing them.
"""

from __future__ import annotations

import asyncio

from ray.experimental import internal_kv

_NAMESPACE = b"gpt-oss-serving"


class ClusterReadiness:
    """One model's mark in the key-value store of Ray's GCS. See ReadinessMemory."""

    def __init__(self, model: str) -> None:
        self._key = f"ready:{model}".encode()

    async def recall(self) -> bool:
        """See ReadinessMemory."""
        return bool(await asyncio.to_thread(internal_kv._internal_kv_exists, self._key, namespace=_NAMESPACE))

    async def remember(self) -> None:
        """See ReadinessMemory."""
        await asyncio.to_thread(internal_kv._internal_kv_put, self._key, b"1", namespace=_NAMESPACE)
