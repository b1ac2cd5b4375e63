"""Usage store in this process's memory; in a cluster, in the process of one actor. Lost when it stops."""

from __future__ import annotations

from collections.abc import Sequence

from serving.tenancy.usage.base import Counts, UsageKey, UsageRow


class MemoryUsageStore:
    """UsageStore in memory."""

    def __init__(self) -> None:
        self._counts: dict[UsageKey, Counts] = {}

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """See UsageStore."""
        for key, counts in rows:
            self._counts.setdefault(key, Counts()).add(counts)

    async def read(self, first_day: str, last_day: str) -> list[UsageRow]:
        """See UsageStore."""
        return [(key, self._counts[key]) for key in sorted(self._counts) if first_day <= key[0] <= last_day]

    async def forget(self, before_day: str) -> None:
        """See UsageStore."""
        self._counts = {key: counts for key, counts in self._counts.items() if key[0] >= before_day}

    async def close(self) -> None:
        """See UsageStore."""
