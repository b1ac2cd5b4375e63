"""Settings of stored responses and of cached answers: backend, lifetime and size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

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


_SHORTEST_KEY = 32


class ResponsesSettings(StoreSettings):
    """Responses: their store, and the form of the analysis in them."""

    reasoning_summary: Literal["on_request", "always", "never"] = Field(
        "on_request",
        description="The analysis is given as the summary of reasoning items too; on_request: where the request "
        "asks for a summary, as clients do that show nothing else.",
    )
    max_background: int = Field(
        100, ge=0, description="Background responses that each ingress replica makes at the same time; 0: none."
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="Encrypts reasoning.encrypted_content; 32 characters or more, such as `openssl rand -base64 32` "
        "gives. Of several with commas between, the first encrypts and all decrypt. Better as the variable "
        "SERVING_RESPONSES__ENCRYPTION_KEY. Never shown. Unset: made at random, and lost when the cluster restarts.",
    )

    @field_validator("encryption_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and any(len(each.strip()) < _SHORTEST_KEY for each in key.get_secret_value().split(",")):
            raise ValueError(f"should be {_SHORTEST_KEY} characters or more, such as `openssl rand -base64 32` gives")
        return key

    @property
    def encryption_keys(self) -> tuple[str, ...]:
        """Keys that encrypt (the first) and decrypt (all); () where one is made at random."""
        if self.encryption_key is None:
            return ()
        return tuple(each.strip() for each in self.encryption_key.get_secret_value().split(","))


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
