"""Limits counted in this process; in a cluster, in the process of one actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serving.tenancy.rate_limits.base import (
    HOLDER_LIFE_S,
    WINDOW,
    Amounts,
    Ask,
    Limit,
    Refused,
    Report,
    Taken,
    Window,
    month_of,
    next_day,
    next_month,
)

SPARE_PART = 0.02
"""Part of a limit that all replicas together may hold to spare: what lies there unused is missing elsewhere."""

LONGEST_PROMISE_S = 2.0 * WINDOW


@dataclass(slots=True)
class SlidingWindow:
    """What was used in each of the last WINDOW seconds.

    `promised` is what those who were refused have been told to come back for. It melts as the window frees itself, and
    later ones are told later times.
    """

    seconds: dict[int, int] = field(default_factory=dict)
    used: int = 0
    promised: float = 0.0
    promised_at: float = 0.0

    def advance(self, now: float) -> None:
        """Forget what has left the window."""
        oldest = int(now) - WINDOW + 1
        for second in [second for second in self.seconds if second < oldest]:
            self.used -= self.seconds.pop(second)

    def add(self, amount: int, second: int, now: float) -> None:
        """Use more, or less where negative, in that second; nothing where it has left the window."""
        if second > int(now) - WINDOW:
            self.used += amount
            self.seconds[second] = self.seconds.get(second, 0) + amount

    def room_in_s(self, need: int, limit: int, now: float) -> float:
        """How long until `need` fits, after all that has been promised; 0 where it fits now."""
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
        """For the client."""
        last = max((second for second, used in self.seconds.items() if used > 0), default=None)
        return Window(limit, max(0, limit - self.used), 0.0 if last is None else last + WINDOW - now)


@dataclass(slots=True)
class _Holder:
    sequence: int
    held: int
    seen: float


@dataclass(slots=True)
class _Account:
    requests: SlidingWindow = field(default_factory=SlidingWindow)
    tokens: SlidingWindow = field(default_factory=SlidingWindow)
    days: dict[int, int] = field(default_factory=dict)
    months: dict[str, int] = field(default_factory=dict)
    holders: dict[str, _Holder] = field(default_factory=dict)


class MemoryLimitStore:
    """See LimitStore. `clock` gives seconds since the epoch; should it go back, time stands still here."""

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
            account.days[int(now // 86400)] = account.days.get(int(now // 86400), 0) + day
            account.months[month_of(now)] = account.months.get(month_of(now), 0) + month

    async def take(self, ask: Ask) -> Taken | Refused:
        """See LimitStore."""
        now = self._tick()
        account = self._accounts.setdefault(ask.team, _Account())
        account.requests.advance(now)
        account.tokens.advance(now)
        elsewhere, holders = _others(account, ask.holder, now)
        if refusal := _first_refusal(account, ask, elsewhere, now):
            limit, wait = refusal
            self._hear(account, ask.holder, ask.sequence, ask.held, now)
            return Refused(limit, wait, *_views(account, ask, now))
        spare = _spare(account, ask, elsewhere, holders, now)
        got = Amounts(ask.need.requests + spare.requests, ask.need.tokens + spare.tokens, ask.need.slots + spare.slots)
        _charge(account, got.requests, got.tokens, int(now), now)
        self._hear(account, ask.holder, ask.sequence, ask.held + got.slots, now)
        return Taken(got, *_views(account, ask, now))

    async def report(self, reports: Sequence[Report]) -> None:
        """See LimitStore."""
        now = self._tick()
        for report in reports:
            account = self._accounts.setdefault(report.team, _Account())
            for each in report.corrections:
                _charge(account, each.requests, each.tokens, int(now - each.age_s), now)
            self._hear(account, report.holder, report.sequence, report.held, now)

    async def close(self) -> None:
        """See LimitStore."""

    def _tick(self) -> float:
        self._now = max(self._now, self._clock())
        return self._now

    @staticmethod
    def _hear(account: _Account, name: str, sequence: int, held: int, now: float) -> None:
        holder = account.holders.get(name)
        if holder is None or sequence > holder.sequence:
            account.holders[name] = _Holder(sequence, held, now)
        else:
            holder.seen = now


def _others(account: _Account, name: str, now: float) -> tuple[int, int]:
    """Slots that other replicas hold, and how many replicas there are."""
    for gone in [each for each, holder in account.holders.items() if now - holder.seen > HOLDER_LIFE_S]:
        del account.holders[gone]
    others = [holder.held for each, holder in account.holders.items() if each != name]
    return sum(others), len(others) + 1


def _first_refusal(account: _Account, ask: Ask, elsewhere: int, now: float) -> tuple[Limit, float | None] | None:
    limits, need = ask.limits, ask.need
    day, month = account.days.get(int(now // 86400), 0), account.months.get(month_of(now), 0)
    if limits.tokens_per_month is not None and month + need.tokens > limits.tokens_per_month:
        return "tokens_per_month", next_month(now) - now
    if limits.tokens_per_day is not None and day + need.tokens > limits.tokens_per_day:
        return "tokens_per_day", next_day(now) - now
    minutes: tuple[tuple[Limit, SlidingWindow, int | None, int], ...] = (
        ("requests_per_minute", account.requests, limits.requests_per_minute, need.requests),
        ("tokens_per_minute", account.tokens, limits.tokens_per_minute, need.tokens),
    )
    waits: list[tuple[float, Limit]] = []
    for name, window, limit, wanted in minutes:
        if limit is not None and wanted and (wait := window.room_in_s(min(wanted, limit), limit, now)):
            waits.append((wait, name))
    if waits:
        wait, name = max(waits)
        return name, wait
    most = limits.concurrent_requests
    if most is not None and need.slots and elsewhere + ask.held + need.slots > most:
        return "concurrent_requests", None
    return None


def _spare(account: _Account, ask: Ask, elsewhere: int, holders: int, now: float) -> Amounts:
    """As much of what is asked for to spare as all together may hold."""
    limits, wanted, need = ask.limits, ask.spare, ask.need

    def some(limit: int | None, used: int, asked: int) -> int:
        if limit is None:
            return asked
        return max(0, min(asked, int(limit * SPARE_PART) // holders, (limit - used) // (4 * holders)))

    day, month = account.days.get(int(now // 86400), 0), account.months.get(month_of(now), 0)
    tokens = some(limits.tokens_per_minute, account.tokens.used + need.tokens, wanted.tokens)
    tokens = some(limits.tokens_per_day, day + need.tokens, tokens)
    tokens = some(limits.tokens_per_month, month + need.tokens, tokens)
    return Amounts(
        some(limits.requests_per_minute, account.requests.used + need.requests, wanted.requests),
        tokens,
        some(limits.concurrent_requests, elsewhere + ask.held + need.slots, wanted.slots),
    )


def _charge(account: _Account, requests: int, tokens: int, second: int, now: float) -> None:
    account.requests.add(requests, second, now)
    account.tokens.add(tokens, second, now)
    if tokens:
        day, month = int(second // 86400), month_of(second)
        account.days = {each: used for each, used in account.days.items() if each >= day - 1}
        account.months = {each: used for each, used in account.months.items() if each >= month_of(now - 32 * 86400)}
        account.days[day] = account.days.get(day, 0) + tokens
        account.months[month] = account.months.get(month, 0) + tokens


def _views(account: _Account, ask: Ask, now: float) -> tuple[Window | None, Window | None]:
    limits = ask.limits
    return (
        None if limits.requests_per_minute is None else account.requests.view(limits.requests_per_minute, now),
        None if limits.tokens_per_minute is None else account.tokens.view(limits.tokens_per_minute, now),
    )
