"""Usage ledger: collects what finished requests used, and adds it to the store once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from serving.errors import StoreUnavailableError
from serving.telemetry.record import RequestRecord
from serving.tenancy.auth.authenticator import OPEN
from serving.tenancy.usage.base import Counts, UsageKey, UsageStore

logger = logging.getLogger(__name__)

_FLUSH_S = 1.0
_REMIND_S = 60.0
_FORGET_EVERY_S = 3600.0
NO_EFFORT = "none"
"""Effort of completions of raw prompts, which have none."""


def day_of(epoch_s: float) -> str:
    """UTC day, as 2026-11-21."""
    return datetime.fromtimestamp(epoch_s, UTC).date().isoformat()


class UsageLedger:
    """Ledger of usage, an observer of telemetry's records. Keeps what the store does not take, and adds it again.

    The ledger's size is bounded by days, teams, models and efforts, not by requests. A killed process loses its last
    second. `clock` gives seconds since the epoch.
    """

    def __init__(self, store: UsageStore, clock: Callable[[], float], keep_days: int) -> None:
        self.store = store
        self._clock = clock
        self._keep_days = keep_days
        self._pending: dict[UsageKey, Counts] = {}
        self._reminded = float("-inf")
        self._forgot = float("-inf")
        self._flushing = asyncio.Lock()

    def record(self, record: RequestRecord) -> None:
        """Count a request for which a model was resolved; see OnRecord."""
        if record.model is None or record.api == "tokenize":
            return
        day = day_of(record.started_at)
        # To clients an adapter's name is a model's.
        model = record.adapter or record.model
        key = (day, record.team or OPEN.team, model, record.effort or NO_EFFORT)
        self._pending.setdefault(key, Counts()).add(Counts.of(record))

    async def used_lately(self) -> dict[str, tuple[int, int]]:
        """Tokens of this day and of this month, by team; raises StoreUnavailableError."""
        today = day_of(self._clock())
        used: dict[str, tuple[int, int]] = {}
        for (day, team, _, _), counts in await self.store.read(f"{today[:8]}01", today):
            tokens = counts.prompt_tokens + counts.completion_tokens
            of_day, of_month = used.get(team, (0, 0))
            used[team] = of_day + (tokens if day == today else 0), of_month + tokens
        return used

    async def run(self) -> None:
        """Flush every second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            # Not cancelled once begun: half way it is unknown whether the store has it.
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Add pending counts to the store."""
        async with self._flushing:
            pending, self._pending = self._pending, {}
            try:
                if pending:
                    await self.store.add(list(pending.items()))
                    pending = {}
                await self._forget()
            except StoreUnavailableError as error:
                self._remind(error)
            finally:
                for key, counts in pending.items():
                    self._pending.setdefault(key, Counts()).add(counts)

    async def close(self) -> None:
        """Add the last counts, and close the store."""
        await self.flush()
        await self.store.close()

    async def _forget(self) -> None:
        now = self._clock()
        if now - self._forgot < _FORGET_EVERY_S:
            return
        self._forgot = now
        await self.store.forget((datetime.fromtimestamp(now, UTC) - timedelta(self._keep_days)).date().isoformat())

    def _remind(self, error: StoreUnavailableError) -> None:
        now = self._clock()
        if now - self._reminded >= _REMIND_S:
            self._reminded = now
            logger.error("usage cannot be stored now, and is kept until it can: %s %r", error, error.__cause__)
