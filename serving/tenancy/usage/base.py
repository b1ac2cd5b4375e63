"""Usage store: the protocol, and the counts it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.harmony.channels import USAGE_COLUMNS, TokenCounts
from serving.telemetry.record import RequestRecord

KEY = ("day", "team", "model", "effort")
COUNTS = (
    "requests",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    *USAGE_COLUMNS.values(),
    "replayed_tokens",
)
_OWN = tuple(name for name in COUNTS if name not in USAGE_COLUMNS.values())

UsageKey = tuple[str, str, str, str]
"""Day (UTC, 2026-11-21), team, model, effort."""


@dataclass(slots=True)
class Counts:
    """Counts of requests and tokens, one for each of COUNTS.

    `failed` requests are among `requests`; their tokens were spent all the same. `cached_tokens` are among those of the
    prompt, those of `channels` among those of the completion, whose rest is structure and calls' arguments. Those of
    answers that were kept or shared, prompt and completion, are `replayed_tokens` and in none of the others.
    """

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    channels: TokenCounts = field(default_factory=TokenCounts)
    replayed_tokens: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of `other`."""
        for name in _OWN:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.channels.add(other.channels)

    def values(self) -> tuple[int, ...]:
        """Values in the order of COUNTS."""
        own = {name: getattr(self, name) for name in _OWN}
        by_channel = {column: self.channels[channel] for channel, column in USAGE_COLUMNS.items()}
        return tuple((own | by_channel)[name] for name in COUNTS)

    @classmethod
    def from_columns(cls, columns: Mapping[str, int]) -> Counts:
        """Make counts from values by the names of COUNTS; missing ones are 0."""
        by_channel = {channel: columns.get(column, 0) for channel, column in USAGE_COLUMNS.items()}
        return cls(**{name: columns.get(name, 0) for name in _OWN}, channels=TokenCounts(**by_channel))

    @classmethod
    def of(cls, record: RequestRecord) -> Counts:
        """Counts of one request."""
        usage = record.usage
        counts = cls(requests=1, failed=int(record.outcome != "ok"))
        if usage is not None and usage.cache is not None:
            counts.replayed_tokens = usage.prompt_tokens + usage.completion_tokens
        elif usage is not None:
            counts.prompt_tokens, counts.cached_tokens = usage.prompt_tokens, usage.cached_tokens
            counts.completion_tokens = usage.completion_tokens
            counts.channels = TokenCounts(**{channel: usage.channels[channel] for channel in USAGE_COLUMNS})
        return counts


UsageRow = tuple[UsageKey, Counts]


class UsageStore(Protocol):
    """Usage store: in memory, in a SQLite file, in Redis, or in an actor of the cluster.

    Methods raise StoreUnavailableError when the backend cannot be reached or does not answer.
    """

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Add the counts of all rows, or of none."""
        ...

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """Rows of these days and those between, in order."""
        ...

    async def forget(self, before_day: str) -> None:
        """Remove the days before `before_day`."""
        ...

    async def close(self) -> None:
        """Close files and connections. May be called more than once."""
        ...
