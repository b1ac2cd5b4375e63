"""Lease of one replica on a team's limits: what it has acquired, and what it has not reported to the store yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.settings.limits import LIMIT_KINDS, Unit
from serving.settings.teams import Team
from serving.tenancy.rate_limits.base import Amounts, Correction, Report, Window
from serving.tenancy.throughput import Rate

_SPARE_LIFE_S = 5.0
_SPARE_SLOT_LIFE_S = 0.25
_HEARTBEAT_S = 5.0
_EXPIRE_S = 120.0
_SPARE_S = 0.25


@dataclass(slots=True)
class Block:
    """Denial by the store: until `until`, the replica denies as many `tokens` or more itself, and counts them."""

    limit: str
    tokens: int
    until: float
    free_at: float
    denied: int = 0


class Lease:
    """Lease of one team in one replica: requests, tokens and slots to spare, and corrections to report.

    `clock` is monotonic.
    """

    def __init__(self, team: str, holder: str, clock: Callable[[], float]) -> None:
        self._team = team
        self._holder = holder
        self._clock = clock
        self.limits = Team()
        self.requests = 0
        self.tokens = 0
        self.slots_held = 0
        self.slots_used = 0
        self.slots_pending = 0
        self.block: Block | None = None
        self.windows: tuple[Window | None, Window | None] = (None, None)
        self.finishing = Rate(clock)
        self._starting = Rate(clock)
        self._spending = Rate(clock)
        self._sequence = 0
        self._corrections: dict[int, list[int]] = {}
        self._used_at = self._reported_at = self._taken_at = clock()
        self._slot_freed_at = clock()

    def counts(self, unit: Unit) -> bool:
        """Whether the team has any limit in `unit`."""
        return any(kind.unit == unit and self.limits.limit(kind) is not None for kind in LIMIT_KINDS)

    def reserve(self, wanted: Amounts) -> tuple[Amounts, Amounts]:
        """Take what the lease has of `wanted`. Returns that, and what is missing."""
        got = Amounts(
            min(self.requests, wanted.requests),
            min(self.tokens, wanted.tokens),
            min(self.slots_held - self.slots_used, wanted.slots),
        )
        self.requests -= got.requests
        self.tokens -= got.tokens
        self.slots_used += got.slots
        self._used_at = self._clock()
        missing = Amounts(wanted.requests - got.requests, wanted.tokens - got.tokens, wanted.slots - got.slots)
        return got, missing

    def unreserve(self, amounts: Amounts) -> None:
        """Undo reserve()."""
        self.requests += amounts.requests
        self.tokens += amounts.tokens
        self.release_slots(amounts.slots)

    def record_start(self, tokens: int) -> None:
        """Record a request that was let through, for spare()."""
        self._starting.add(1)
        self._spending.add(tokens)

    def spare(self) -> Amounts:
        """Amounts to acquire in advance: a quarter second's use, and one request at least."""
        each = round(self._spending.per_second / max(self._starting.per_second, 1e-9))
        requests = max(1, round(self._starting.per_second * _SPARE_S))
        return Amounts(requests, requests * each, 1)

    def grant(self, got: Amounts) -> None:
        """Add what the store granted."""
        self._taken_at = self._clock()
        self.requests += got.requests
        self.tokens += got.tokens
        self.slots_held += got.slots

    def correct(self, at: float, requests: int, tokens: int) -> None:
        """Correct what was taken at `at`: so much more was used, or less where negative."""
        if requests or tokens:
            entry = self._corrections.setdefault(int(at), [0, 0])
            entry[0] += requests
            entry[1] += tokens

    def release_slots(self, count: int) -> None:
        """Release the slots of `count` requests that have ended."""
        if count:
            self.slots_used -= count
            self._slot_freed_at = self._clock()

    def next_sequence(self) -> int:
        """Sequence number of the next message."""
        self._sequence += 1
        self._reported_at = self._clock()
        return self._sequence

    @property
    def held(self) -> int:
        """Slots held, those of pending acquisitions included."""
        return self.slots_held + self.slots_pending

    def report(self) -> Report | None:
        """Report that is due to the store now; None where none is.

        Amounts to spare that were not used for a while go back with it.
        """
        now = self._clock()
        if now - max(self._used_at, self._taken_at) > _SPARE_LIFE_S:
            self.correct(self._taken_at, -self.requests, -self.tokens)
            self.requests = self.tokens = 0
        shrunk = self.slots_held > self.slots_used and now - self._slot_freed_at > _SPARE_SLOT_LIFE_S
        if shrunk:
            self.slots_held = self.slots_used
        if not (self._corrections or shrunk or (self.slots_held and now - self._reported_at > _HEARTBEAT_S)):
            return None
        corrections = tuple(Correction(max(0.0, now - at), *amounts) for at, amounts in self._corrections.items())
        self._corrections = {}
        return Report(self._team, self.limits, self._holder, self.next_sequence(), self.held, corrections)

    def restore(self, report: Report) -> None:
        """Take corrections of a report that did not arrive into the next one."""
        now = self._clock()
        for each in report.corrections:
            self.correct(now - each.age_s, each.requests, each.tokens)

    @property
    def expired(self) -> bool:
        """Whether the lease is idle and has nothing to report or to hold."""
        idle = self._clock() - max(self._used_at, self._slot_freed_at) > _EXPIRE_S
        return idle and not (self._corrections or self.slots_held or self.slots_pending)
