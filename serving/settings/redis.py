"""Settings of the Redis that replicas share."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator

from serving.settings.base import Section


class RedisSettings(Section):
    """Redis that replicas share."""

    url: SecretStr | None = Field(
        None,
        description="redis://host:6379/0, or rediss:// for TLS; with a password better as the variable "
        "SERVING_REDIS__URL. Never shown.",
    )

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(r"(rediss?|unix)://.", url.get_secret_value()):
            raise ValueError("should be redis://HOST:PORT/DATABASE, rediss://... or unix://PATH")
        return url
