"""Settings of failover."""

from __future__ import annotations

from pydantic import Field

from serving.settings.base import Section


class FailoverSettings(Section):
    """Failover of answers whose engine is lost."""

    attempts: int = Field(5, ge=1, description="Engines tried for one request at most; 1 ends it with its engine.")
    longest_s: float = Field(180.0, gt=0, description="Longest time a request waits for another engine, in seconds.")
    hold_s: float = Field(
        120.0, ge=0, description="Longest time a new request waits while all engines are being replaced, in seconds."
    )
