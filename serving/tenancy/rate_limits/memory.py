"""Limit store in this process's memory; in a cluster, in the process of one actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serving.settings.limits import CALENDAR, LIMIT_KINDS, Span, Unit, period_end, period_of
from serving.tenancy.rate_limits.base import (
    HOLDER_LIFE_S,
    WINDOW,
    Acquisition,
    Amounts,
    Denied,
    Granted,
    Report,
    Window,
)

SPARE_PART = 0.02
"""Part of a limit that all replicas together may hold to spare: what is unused there is missing elsewhere."""

LONGEST_PROMISE_S = 2.0 * WINDOW


@dataclass(slots=True)
class SlidingWindow:
    """Sliding window: what was used in each of the last WINDOW seconds.

    `promised` is the sum of what denied requests were told to come back for. It shrinks as the window frees itself, so
    that later requests are told later times.
    """

    seconds: dict[int, int] = field(default_factory=dict)
    used: int = 0
    promised: float = 0.0
    promised_at: float = 0.0

    def advance(self, now: float) -> None:
        """Remove seconds that have left the window."""
        oldest = int(now) - WINDOW + 1
        for second in [second for second in self.seconds if second < oldest]:
            self.used -= self.seconds.pop(second)

    def add(self, amount: int, second: int, now: float) -> None:
        """Count `amount`, which may be negative, in `second`; ignored where `second` has left the window."""
        if second > int(now) - WINDOW:
            self.used += amount
            self.seconds[second] = self.seconds.get(second, 0) + amount

    def wait_s(self, need: int, limit: int, now: float) -> float:
        """Seconds until `need` fits, after all that has been promised; 0 where it fits now."""
        if self.used + need <= limit:
            return 0.0
        self.promised = max(0.0, self.promised - (now - self.promised_at) * limit / WINDOW)
        self.promised_at = now
        wanted = self.used + need - limit + self.promised
        self.promised += need
        freed = 0.0
        for second in sorted(self.seconds):
            freed += self.seconds[second]
            if freed >= wanted:
                return second + WINDOW - now
        return min(LONGEST_PROMISE_S, WINDOW * (1 + (wanted - freed) / limit))

    def view(self, limit: int, now: float) -> Window:
        """State of the window, for the client."""
        last = max((second for second, used in self.seconds.items() if used > 0), default=None)
        return Window(limit, max(0, limit - self.used), 0.0 if last is None else last + WINDOW - now)


@dataclass(slots=True)
class _Holder:
    sequence: int
    held: int
    seen: float


@dataclass(slots=True)
class _Account:
    windows: dict[Unit, SlidingWindow] = field(
        default_factory=lambda: {"requests": SlidingWindow(), "tokens": SlidingWindow()}
    )
    periods: dict[tuple[Unit, Span], dict[str, int]] = field(default_factory=dict)
    holders: dict[str, _Holder] = field(default_factory=dict)

    def used(self, unit: Unit, span: Span, now: float) -> int:
        """Amount used in the day or the month of `now`."""
        return self.periods.get((unit, span), {}).get(period_of(span, now), 0)

    def use(self, unit: Unit, span: Span, amount: int, second: float, now: float) -> None:
        """Count `amount` for the day or the month of `second`, and remove periods before the last one."""
        span_s = 86400 if span == "day" else 32 * 86400
        oldest = period_of(span, now - span_s)
        periods = self.periods.setdefault((unit, span), {})
        for gone in [each for each in periods if each < oldest]:
            del periods[gone]
        period = period_of(span, second)
        periods[period] = periods.get(period, 0) + amount


class MemoryLimitStore:
    """LimitStore in memory. `clock` gives seconds since the epoch; while it goes back, time stands still here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = 0.0
        self._accounts: dict[str, _Account] = {}
        self._seeded = False

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """See LimitStore."""
        now, first = self._tick(), not self._seeded
        self._seeded = True
        for team, (day, month) in used.items() if first else ():
            account = self._accounts.setdefault(team, _Account())
            account.use("tokens", "day", day, now, now)
            account.use("tokens", "month", month, now, now)

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """See LimitStore."""
        now = self._tick()
        account = self._accounts.setdefault(acquisition.team, _Account())
        for window in account.windows.values():
            window.advance(now)
        elsewhere, holders = _others(account, acquisition.holder, now)
        if denial := _first_denial(account, acquisition, elsewhere, now):
            limit, wait = denial
            self._update_holder(account, acquisition.holder, acquisition.sequence, acquisition.held, now)
            return Denied(limit, wait, *_views(account, acquisition, now))
        spare = _spare(account, acquisition, elsewhere, holders, now)
        got = Amounts(
            acquisition.need.requests + spare.requests,
            acquisition.need.tokens + spare.tokens,
            acquisition.need.slots + spare.slots,
        )
        _charge(account, got.requests, got.tokens, int(now), now)
        self._update_holder(account, acquisition.holder, acquisition.sequence, acquisition.held + got.slots, now)
        return Granted(got, *_views(account, acquisition, now))

    async def report(self, reports: Sequence[Report]) -> None:
        """See LimitStore."""
        now = self._tick()
        for report in reports:
            account = self._accounts.setdefault(report.team, _Account())
            for each in report.corrections:
                _charge(account, each.requests, each.tokens, int(now - each.age_s), now)
            self._update_holder(account, report.holder, report.sequence, report.held, now)

    async def close(self) -> None:
        """See LimitStore."""

    def _tick(self) -> float:
        self._now = max(self._now, self._clock())
        return self._now

    @staticmethod
    def _update_holder(account: _Account, name: str, sequence: int, held: int, now: float) -> None:
        holder = account.holders.get(name)
        if holder is None or sequence > holder.sequence:
            account.holders[name] = _Holder(sequence, held, now)
        else:
            holder.seen = now


def _others(account: _Account, name: str, now: float) -> tuple[int, int]:
    """Slots that other replicas hold, and the number of replicas."""
    for gone in [each for each, holder in account.holders.items() if now - holder.seen > HOLDER_LIFE_S]:
        del account.holders[gone]
    others = [holder.held for each, holder in account.holders.items() if each != name]
    return sum(others), len(others) + 1


def _first_denial(
    account: _Account, acquisition: Acquisition, elsewhere: int, now: float
) -> tuple[str, float | None] | None:
    limits, need = acquisition.limits, acquisition.need
    for kind in CALENDAR:
        most = limits.limit(kind)
        if most is not None and account.used(kind.unit, kind.span, now) + need.of(kind.unit) > most:
            return kind.name, period_end(kind.span, now) - now
    waits: list[tuple[float, str]] = []
    for kind in LIMIT_KINDS:
        most, wanted = limits.limit(kind), need.of(kind.unit)
        if kind.span != "minute" or most is None or not wanted:
            continue
        if wait := account.windows[kind.unit].wait_s(min(wanted, most), most, now):
            waits.append((wait, kind.name))
    if waits:
        wait, name = max(waits)
        return name, wait
    for kind in LIMIT_KINDS:
        most = limits.limit(kind)
        if (
            kind.span == "moment"
            and most is not None
            and need.slots
            and elsewhere + acquisition.held + need.slots > most
        ):
            return kind.name, None
    return None


def _spare(account: _Account, acquisition: Acquisition, elsewhere: int, holders: int, now: float) -> Amounts:
    """Part of the acquisition's `spare` that leaves all replicas together within SPARE_PART of each limit."""

    def granted(unit: Unit) -> int:
        asked, need = acquisition.spare.of(unit), acquisition.need.of(unit)
        for kind in LIMIT_KINDS:
            limit = acquisition.limits.limit(kind)
            if kind.unit != unit or limit is None:
                continue
            if kind.span == "minute":
                used = account.windows[unit].used
            elif kind.span == "moment":
                used = elsewhere + acquisition.held
            else:
                used = account.used(unit, kind.span, now)
            asked = max(0, min(asked, int(limit * SPARE_PART) // holders, (limit - used - need) // (4 * holders)))
        return asked

    return Amounts(granted("requests"), granted("tokens"), granted("slots"))


def _charge(account: _Account, requests: int, tokens: int, second: int, now: float) -> None:
    amounts = Amounts(requests, tokens)
    for unit, window in account.windows.items():
        window.add(amounts.of(unit), second, now)
    for kind in CALENDAR:
        if amount := amounts.of(kind.unit):
            account.use(kind.unit, kind.span, amount, second, now)


def _views(account: _Account, acquisition: Acquisition, now: float) -> tuple[Window | None, Window | None]:
    limits, windows = acquisition.limits, account.windows
    return (
        None if limits.requests_per_minute is None else windows["requests"].view(limits.requests_per_minute, now),
        None if limits.tokens_per_minute is None else windows["tokens"].view(limits.tokens_per_minute, now),
    )
