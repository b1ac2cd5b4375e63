"""The seam between what was used and where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Protocol

from serving.telemetry.record import RequestRecord

KEY = ("day", "team", "model", "effort")
COUNTS = (
    "requests",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "commentary_tokens",
    "final_tokens",
    "replayed_tokens",
)

UsageKey = tuple[str, str, str, str]
"""Day (UTC, 2026-11-21), team, model, effort."""


@dataclass(slots=True)
class Counts:
    """`failed` requests are among `requests`; their tokens were spent all the same. `cached_tokens` are among those of
    the prompt; reasoning, commentary and final ones among those of the completion, whose rest is structure. Those of
    answers that were kept or shared, prompt and completion, are `replayed_tokens` and in none of the others."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    commentary_tokens: int = 0
    final_tokens: int = 0
    replayed_tokens: int = 0

    def add(self, other: Counts) -> None:
        """Count the other's too."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def values(self) -> tuple[int, ...]:
        """In the order of COUNTS."""
        return astuple(self)

    @classmethod
    def of(cls, record: RequestRecord) -> Counts:
        """What one request was."""
        usage = record.usage
        counts = cls(requests=1, failed=int(record.outcome != "ok"))
        if usage is not None and usage.cache is not None:
            counts.replayed_tokens = usage.prompt_tokens + usage.completion_tokens
        elif usage is not None:
            counts.prompt_tokens, counts.cached_tokens = usage.prompt_tokens, usage.cached_tokens
            counts.completion_tokens, counts.reasoning_tokens = usage.completion_tokens, usage.reasoning_tokens
            counts.commentary_tokens, counts.final_tokens = usage.commentary_tokens, usage.final_tokens
        return counts


UsageRow = tuple[UsageKey, Counts]


class UsageStore(Protocol):
    """Implemented in memory, in a SQLite file, in Redis, and by the handle to an actor in the cluster.

    Methods raise StoreUnavailableError when the backend cannot be reached or does not answer.
    """

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Count these too, all or none."""
        ...

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """What was used on these days and those between, in order."""
        ...

    async def forget(self, before_day: str) -> None:
        """Keep nothing of days before that."""
        ...

    async def close(self) -> None:
        """Let go of files and connections. May be called more than once."""
        ...
