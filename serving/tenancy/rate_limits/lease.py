"""What one replica has taken of a team's limits, and has not told the store yet."""

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
_FORGET_S = 120.0
_AHEAD_S = 0.25


@dataclass(slots=True)
class Block:
    """The store refused: until then, as much or more is refused here. `told` counts who was."""

    limit: str
    tokens: int
    until: float
    free_at: float
    told: int = 0


class Lease:
    """Spare requests, tokens and slots of one team in one replica. `clock` is monotonic."""

    def __init__(self, team: str, holder: str, clock: Callable[[], float]) -> None:
        self._team = team
        self._holder = holder
        self._clock = clock
        self.limits = Team()
        self.requests = 0
        self.tokens = 0
        self.slots_held = 0
        self.slots_used = 0
        self.slots_asked = 0
        self.block: Block | None = None
        self.windows: tuple[Window | None, Window | None] = (None, None)
        self.finishing = Rate(clock)
        self._starting = Rate(clock)
        self._spending = Rate(clock)
        self._sequence = 0
        self._corrections: dict[int, list[int]] = {}
        self._used_at = self._told_at = self._taken_at = clock()
        self._slot_freed_at = clock()

    def counts(self, unit: Unit) -> bool:
        """Whether the team has any limit in `unit`."""
        return any(kind.unit == unit and self.limits.limit(kind) is not None for kind in LIMIT_KINDS)

    def reserve(self, wanted: Amounts) -> tuple[Amounts, Amounts]:
        """Take what is there of `wanted`. Returns that, and what is missing."""
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

    def put_back(self, amounts: Amounts) -> None:
        """Undo reserve()."""
        self.requests += amounts.requests
        self.tokens += amounts.tokens
        self.free_slots(amounts.slots)

    def started(self, tokens: int) -> None:
        """A request was let through; what the team needs next is guessed from these."""
        self._starting.add(1)
        self._spending.add(tokens)

    def spare(self) -> Amounts:
        """What is worth taking in advance: a quarter second's use, and one request at least."""
        each = round(self._spending.per_second / max(self._starting.per_second, 1e-9))
        requests = max(1, round(self._starting.per_second * _AHEAD_S))
        return Amounts(requests, requests * each, 1)

    def add(self, got: Amounts) -> None:
        """The store gave this."""
        self._taken_at = self._clock()
        self.requests += got.requests
        self.tokens += got.tokens
        self.slots_held += got.slots

    def correct(self, at: float, requests: int, tokens: int) -> None:
        """What was taken at `at` was so much too little, or too much where negative."""
        if requests or tokens:
            entry = self._corrections.setdefault(int(at), [0, 0])
            entry[0] += requests
            entry[1] += tokens

    def free_slots(self, count: int) -> None:
        """So many requests are over."""
        if count:
            self.slots_used -= count
            self._slot_freed_at = self._clock()

    def next_sequence(self) -> int:
        """A number for the next message."""
        self._sequence += 1
        self._told_at = self._clock()
        return self._sequence

    @property
    def held(self) -> int:
        """Slots taken, those being asked for included."""
        return self.slots_held + self.slots_asked

    def report(self) -> Report | None:
        """What the store has to be told now, if anything; it is not told twice."""
        now = self._clock()
        if now - max(self._used_at, self._taken_at) > _SPARE_LIFE_S:
            self.correct(self._taken_at, -self.requests, -self.tokens)
            self.requests = self.tokens = 0
        shrunk = self.slots_held > self.slots_used and now - self._slot_freed_at > _SPARE_SLOT_LIFE_S
        if shrunk:
            self.slots_held = self.slots_used
        if not (self._corrections or shrunk or (self.slots_held and now - self._told_at > _HEARTBEAT_S)):
            return None
        corrections = tuple(Correction(max(0.0, now - at), *amounts) for at, amounts in self._corrections.items())
        self._corrections = {}
        return Report(self._team, self.limits, self._holder, self.next_sequence(), self.held, corrections)

    def restore(self, report: Report) -> None:
        """The report did not arrive: tell it again."""
        now = self._clock()
        for each in report.corrections:
            self.correct(now - each.age_s, each.requests, each.tokens)

    @property
    def forgettable(self) -> bool:
        """Whether nothing is lost with this."""
        idle = self._clock() - max(self._used_at, self._slot_freed_at) > _FORGET_S
        return idle and not (self._corrections or self.slots_held or self.slots_asked)
