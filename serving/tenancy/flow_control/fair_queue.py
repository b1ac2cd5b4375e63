"""Fair queue: the order in which waiting requests get an engine's slots, shared by tokens between teams.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each team has a tag that grows by tokens over weight with every
request of the team that is dispatched; the team with the lowest tag goes next. A team that returns starts at the tag
of the teams that stayed, so it has saved up nothing, and owes nothing. settle() corrects the tag by what a request
really cost.

Pure: no clock, no waiting. Every operation takes time proportional to the teams that are present, not to the requests
that wait.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

FullReason = Literal["over_share", "full"]
"""Reason why a request cannot wait: its team has more requests waiting than its share, or all teams together have."""


@dataclass(slots=True, eq=False)
class QueueEntry:
    """Request in the queue.

    `rank` is that of its priority class, 0 before 1. `tokens` is its expected cost. `slots` is how many sequences of
    an engine it takes. An engine's KV cache is to hold its `prompt_tokens` and the usual `answer_tokens`. `interrupt`
    asks a background request for its slots.
    """

    team: str
    weight: float = 1.0
    rank: int = 0
    tokens: float = 1.0
    slots: int = 1
    prompt_tokens: int = 0
    answer_tokens: float = 0.0
    interrupt: Callable[[], None] | None = None


class QueueFull(Exception):
    """The queue has no room for a request."""

    def __init__(self, reason: FullReason) -> None:
        super().__init__(reason)
        self.reason: FullReason = reason


@dataclass(slots=True)
class _Team:
    name: str
    weight: float
    rank: int
    finish: float = 0.0
    in_use: int = 0
    waiting: OrderedDict[int, QueueEntry] = field(default_factory=OrderedDict)
    waiting_tokens: float = 0.0

    @property
    def active(self) -> bool:
        return bool(self.in_use or self.waiting)


class FairQueue:
    """Fair queue for `slots` sequences that run at a time, in which at most `max_queued` requests wait.

    Of the slots `reserve` are kept for teams below their share, so that a request that comes while another team floods
    the queue does not wait for one of the flood's long answers to end. With `newcomers` False there is one team alone,
    and nothing is kept. A team's share is its weight's part of the weights of all teams present, and of one more that
    might come.
    """

    def __init__(self, slots: int, *, reserve: int, max_queued: int, newcomers: bool = True) -> None:
        self._teams: dict[str, _Team] = {}
        self._virtual: dict[int, float] = {}
        self._newcomer = 1.0 if newcomers else 0.0
        self.in_use = 0
        self.waiting = 0
        self.resize(slots, reserve=reserve, max_queued=max_queued)

    def resize(self, slots: int, *, reserve: int, max_queued: int) -> None:
        """Change the number of slots and of requests that may wait. Running and waiting requests stay."""
        self.slots, self.max_queued = slots, max_queued
        self._reserve = reserve if self._newcomer else 0
        self._widest = max(1, slots - self._reserve)

    def arrive(self, item: QueueEntry) -> QueueEntry | None:
        """Add `item`; raises QueueFull. Returns the request of another team that is evicted for `item`, if any.

        The evicted request is the newest one of the team that is furthest over its share of the queue, lower classes
        first.
        """
        team = self._team(item)
        victim = None
        if self.waiting >= self.max_queued:
            victim = self._evict(team)
        if not team.waiting:
            team.finish = max(team.finish, self._virtual.get(team.rank, 0.0))
        team.waiting[id(item)] = item
        team.waiting_tokens += item.tokens
        self.waiting += 1
        return victim

    def start_now(self, item: QueueEntry, admits: Callable[[QueueEntry], bool] = lambda entry: True) -> bool:
        """Dispatch `item` past an empty queue; False where it has to arrive() and wait for next()."""
        if self.waiting:
            return False
        team = self._team(item)
        slots = min(item.slots, self._widest)
        if slots > self.slots - self.in_use or not self._within_share(team, slots) or not admits(item):
            self._forget(team)
            return False
        team.finish = self._virtual[team.rank] = max(team.finish, self._virtual.get(team.rank, 0.0))
        self._start(team, item, slots)
        return True

    def next(self, admits: Callable[[QueueEntry], bool] = lambda entry: True) -> QueueEntry | None:
        """Dispatch the next request, None where no request may run. The request holds its slots until free().

        Where `admits` is False for the next request, it and all others wait: none overtakes it.
        """
        seen_ranks = set[int]()
        for team in self._in_order():
            if team.rank not in seen_ranks:
                # The lowest tag of the waiting teams, even if its team is passed over: a new team starts beside it.
                seen_ranks.add(team.rank)
                self._virtual[team.rank] = max(self._virtual.get(team.rank, 0.0), team.finish)
            item = next(iter(team.waiting.values()))
            slots = min(item.slots, self._widest)
            if slots > self.slots - self.in_use:
                return None  # smaller requests behind it would keep it waiting for ever
            if not self._within_share(team, slots):
                continue
            if not admits(item):
                return None
            del team.waiting[id(item)]
            team.waiting_tokens -= item.tokens
            self.waiting -= 1
            self._start(team, item, slots)
            return item
        return None

    def leave(self, item: QueueEntry) -> bool:
        """Remove `item` from the queue; False where it is not in the queue any more."""
        team = self._teams.get(item.team)
        if team is None or team.waiting.pop(id(item), None) is None:
            return False
        self.waiting -= 1
        team.waiting_tokens -= item.tokens
        self._forget(team)
        return True

    @property
    def idle(self) -> int:
        """Number of slots that nothing uses."""
        return self.slots - self.in_use

    @property
    def waiting_slots(self) -> int:
        """Number of slots that the waiting requests take together."""
        return sum(item.slots for team in self._teams.values() for item in team.waiting.values())

    def lend(self, slots: int) -> None:
        """Count slots as used by requests that are not of this queue; a negative number is their return."""
        self.in_use += slots

    def free(self, team_name: str, slots: int) -> None:
        """Give slots of a team back."""
        team = self._teams[team_name]
        team.in_use -= slots
        self.in_use -= slots
        self._forget(team)

    def settle(self, team_name: str, tokens: float) -> None:
        """Charge a team the `tokens` that a request cost beyond its expected cost; a negative number is a refund."""
        if team := self._teams.get(team_name):
            team.finish += tokens / team.weight

    def ahead(self, item: QueueEntry) -> float:
        """Expected cost of the requests ahead of `item`, in tokens, were it to arrive now."""
        own = self._teams.get(item.team)
        mine = item.tokens + (own.waiting_tokens if own else 0.0)
        ahead = mine - item.tokens
        for team in self._teams.values():
            if team is own or team.rank > item.rank:
                continue
            fair = math.inf if team.rank < item.rank else mine * team.weight / item.weight
            ahead += min(team.waiting_tokens, fair)
        return ahead

    def share(self, item: QueueEntry) -> float:
        """Part of all tokens that the team of `item` has a right to, among the teams present now."""
        weights = sum(team.weight for team in self._teams.values() if team.active and team.name != item.team)
        return item.weight / (weights + item.weight)

    def waiting_of(self, team_name: str) -> int:
        """Number of a team's requests that wait."""
        team = self._teams.get(team_name)
        return len(team.waiting) if team else 0

    @property
    def fill(self) -> float:
        """Requests waiting as a part of the most that may wait, 0 to 1."""
        return min(1.0, self.waiting / self.max_queued)

    def _team(self, item: QueueEntry) -> _Team:
        team = self._teams.get(item.team)
        if team is None:
            team = self._teams[item.team] = _Team(item.team, item.weight, item.rank)
        # The teams file may have changed since its last request.
        team.weight, team.rank = item.weight, item.rank
        return team

    def _in_order(self) -> Iterator[_Team]:
        waiting = [team for team in self._teams.values() if team.waiting]
        waiting.sort(key=lambda team: (team.rank, team.finish))
        return iter(waiting)

    def _within_share(self, team: _Team, slots: int) -> bool:
        """Whether the team may have `slots` more; those in reserve are for teams below their share."""
        if slots <= self.slots - self.in_use - self._reserve:
            return True
        others = sum(each.weight for each in self._teams.values() if each.active and each is not team)
        share = self.slots * team.weight / (others + team.weight + self._newcomer)
        return team.in_use + slots <= max(1.0, share)

    def _start(self, team: _Team, item: QueueEntry, slots: int) -> None:
        item.slots = slots
        team.finish += item.tokens / team.weight
        team.in_use += slots
        self.in_use += slots

    def _evict(self, comer: _Team) -> QueueEntry:
        def over(team: _Team) -> tuple[int, float]:
            return team.rank, (len(team.waiting) + (team is comer)) / team.weight

        victim = max((team for team in self._teams.values() if team.waiting), key=over, default=comer)
        if victim is comer or over(victim) <= over(comer):
            others = any(team.active for team in self._teams.values() if team is not comer)
            self._forget(comer)
            weights = sum(team.weight for team in self._teams.values() if team.active or team is comer)
            allowed = self.max_queued * comer.weight / weights
            raise QueueFull("over_share" if others and len(comer.waiting) + 1 > allowed else "full")
        _, item = victim.waiting.popitem(last=True)
        victim.waiting_tokens -= item.tokens
        self.waiting -= 1
        self._forget(victim)
        return item

    def _forget(self, team: _Team) -> None:
        """Remove a team that is absent and owes nothing; when all are absent, remove all."""
        if team.active:
            return
        if not self.in_use and not self.waiting:
            self._teams.clear()
            self._virtual.clear()
        elif team.finish <= self._virtual.get(team.rank, 0.0):
            self._teams.pop(team.name, None)
