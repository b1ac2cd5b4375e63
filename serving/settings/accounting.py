"""Settings of the limit store, the usage store and the audit log."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from serving.settings.base import Section
from serving.settings.problems import several


class LimitSettings(Section):
    """Store that counts the limits of teams."""

    backend: Literal["memory", "redis"] = Field(
        "memory", description="memory: in the cluster; redis: in the Redis at redis.url, where they outlive it."
    )


class UsageSettings(Section):
    """Store of the tokens that teams used."""

    backend: Literal["memory", "sqlite", "redis"] = Field(
        "memory", description="memory: until the stop; sqlite: in a local file; redis: in the Redis at redis.url."
    )
    database: str | None = Field(None, min_length=1, description="The file of `backend: sqlite`.")
    keep_days: int = Field(400, ge=1, description="Days after which figures are forgotten.")

    @model_validator(mode="after")
    def _has_its_file(self) -> Self:
        if (self.backend == "sqlite") != (self.database is not None):
            wanted = "is missing: name the file" if self.database is None else "is for `backend: sqlite` alone"
            raise several([(("database",), wanted)])
        return self


class AuditSettings(Section):
    """Audit log of requests, their teams and outcomes, as JSON lines; never of content."""

    file: str | None = Field(
        None, min_length=1, description="Each ingress replica's file begins like this; unset: none."
    )
    max_bytes: int = Field(64 * 1024 * 1024, ge=4096, description="Size at which a file is put aside, in bytes.")
    keep: int = Field(10, ge=1, description="Files put aside that are kept.")
