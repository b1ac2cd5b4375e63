"""Settings of stored responses and of cached answers: backend, lifetime and size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.settings.base import Section


class StoreSettings(Section):
    """Store of responses: backend, lifetime and size."""

    backend: Literal["memory", "redis"] = Field(
        "memory", description="memory: in the cluster, gone with it; redis: in the Redis at redis.url."
    )
    ttl_s: int = Field(
        24 * 3600, ge=1, description="A response is forgotten after this long without being read or continued, in s."
    )
    max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="All responses together; those not used the longest go first."
    )
    max_item_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="One response with its input; a larger one is answered but not stored."
    )


class CacheSettings(Section):
    """Cache of answers, for equal requests of the same team."""

    backend: Literal["off", "memory", "cluster", "redis"] = Field(
        "off",
        description="off: none are kept; memory: in each ingress replica; cluster: in memory that all of them share; "
        "redis: in the Redis at redis.url.",
    )
    greedy: bool = Field(True, description="Requests at temperature 0 use it, unless they say x-cache: off.")
    seeded: bool = Field(True, description="Requests with a seed use it, unless they say x-cache: off.")
    ttl_s: int = Field(3600, ge=1, description="An answer is given again for this long after it was made, in s.")
    max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="All answers of a store together; those not used the longest go first."
    )
    max_item_bytes: int = Field(1024 * 1024, ge=1024, description="One answer; a larger one is not kept.")
