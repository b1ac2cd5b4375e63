"""A fair wait queue: the next request to be admitted, shared by tokens between teams.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each team has a tag that grows by tokens over weight with each of
its requests that is admitted; the team with the lowest tag goes next. A team that was away starts where the others
are now, so it has saved up nothing, and owes nothing. settle() corrects the tag by what a request
really cost.

Pure: knows no time, waits for nothing. Every operation takes time proportional to the teams that are there, not to
the requests that wait.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Refusal = Literal["over_share", "full"]
"""Reasons for no room to wait: the team has more waiting than its share, or all teams together fill the queue."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits.

    `rank` is its priority class, 0 before 1. `tokens` is its expected cost. `slots` is the number of an engine's
    sequences that it takes.
    """

    team: str
    weight: float = 1.0
    rank: int = 0
    tokens: float = 1.0
    slots: int = 1


class NoRoom(Exception):
    """No room to wait; `reason` tells whether the team or all teams together fill it."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason)
        self.reason: Refusal = reason


@dataclass(slots=True)
class _Team:
    name: str
    weight: float
    rank: int
    finish: float = 0.0
    in_use: int = 0
    waiting: OrderedDict[int, Waiting] = field(default_factory=OrderedDict)
    waiting_tokens: float = 0.0

    @property
    def active(self) -> bool:
        return bool(self.in_use or self.waiting)


class FairQueue:
    """`slots` sequences run at a time, and at most `most_waiting` requests wait.

    Of the slots `reserve` are kept for teams below their share, so that a team that comes while another floods does not
    wait for one of its long answers to end; with `newcomers` False there is one team alone, and nothing is kept. A
    team's share is its weight's part of those that are there, and one more that might come.
    """

    def __init__(self, slots: int, *, reserve: int, most_waiting: int, newcomers: bool = True) -> None:
        self._teams: dict[str, _Team] = {}
        self._virtual: dict[int, float] = {}
        self._newcomer = 1.0 if newcomers else 0.0
        self._reserve = reserve
        self.most_waiting = most_waiting
        self.slots = slots
        self.in_use = 0
        self.waiting = 0

    def resize(self, slots: int, *, reserve: int, most_waiting: int) -> None:
        """Change the number of slots. Admitted requests stay admitted, and waiting ones go on waiting."""
        self.slots, self._reserve, self.most_waiting = slots, reserve, most_waiting

    def arrive(self, item: Waiting) -> Waiting | None:
        """Join the queue. Returns a request of another team that this one pushes out, if any. Raises NoRoom.

        The request pushed out is the newest of the team furthest over its share of the queue, lower classes first.
        """
        team = self._team(item)
        victim = None
        if self.waiting >= self.most_waiting:
            victim = self._push_out(team)
        if not team.waiting:
            team.finish = max(team.finish, self._virtual.get(team.rank, 0.0))
        team.waiting[id(item)] = item
        team.waiting_tokens += item.tokens
        self.waiting += 1
        return victim

    def next(self) -> Waiting | None:
        """Admit the next request; None where none may be. Its slots are taken until free() gives them back."""
        behind = set[int]()
        for team in self._in_order():
            if team.rank not in behind:
                # The lowest tag of those that wait, even if it is passed over: a team that comes now starts beside it.
                behind.add(team.rank)
                self._virtual[team.rank] = max(self._virtual.get(team.rank, 0.0), team.finish)
            item = next(iter(team.waiting.values()))
            slots = min(item.slots, max(1, self.slots - self._kept))
            free = self.slots - self.in_use
            if slots > free:
                return None  # smaller ones behind it would keep it waiting for ever
            if slots > free - self._kept and team.in_use + slots > self._share(team):
                continue
            self._admit(team, item, slots)
            return item
        return None

    def leave(self, item: Waiting) -> bool:
        """Leave the queue; False where `item` is not in it any more."""
        team = self._teams.get(item.team)
        if team is None or team.waiting.pop(id(item), None) is None:
            return False
        self.waiting -= 1
        team.waiting_tokens -= item.tokens
        self._forget(team)
        return True

    def free(self, team_name: str, slots: int) -> None:
        """Give slots back."""
        team = self._teams[team_name]
        team.in_use -= slots
        self.in_use -= slots
        self._forget(team)

    def settle(self, team_name: str, tokens: float) -> None:
        """Correct a team's tag by `tokens` that a request cost beyond what was expected; negative: less."""
        if team := self._teams.get(team_name):
            team.finish += tokens / team.weight

    def ahead(self, item: Waiting) -> float:
        """Tokens that would go before `item` if it arrived now, roughly."""
        own = self._teams.get(item.team)
        mine = item.tokens + (own.waiting_tokens if own else 0.0)
        ahead = mine - item.tokens
        for team in self._teams.values():
            if team is own or team.rank > item.rank:
                continue
            fair = math.inf if team.rank < item.rank else mine * team.weight / item.weight
            ahead += min(team.waiting_tokens, fair)
        return ahead

    def share(self, item: Waiting) -> float:
        """The share of all tokens that the team of `item` has among the teams that are there now."""
        weights = sum(team.weight for team in self._teams.values() if team.active and team.name != item.team)
        return item.weight / (weights + item.weight)

    def waiting_of(self, team_name: str) -> int:
        """Requests of a team that wait."""
        team = self._teams.get(team_name)
        return len(team.waiting) if team else 0

    @property
    def fill(self) -> float:
        """Saturation of the queue, 0 to 1."""
        return min(1.0, self.waiting / self.most_waiting)

    @property
    def _kept(self) -> int:
        return self._reserve if self._newcomer else 0

    def _team(self, item: Waiting) -> _Team:
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

    def _share(self, team: _Team) -> float:
        weights = sum(each.weight for each in self._teams.values() if each.active) + self._newcomer
        return max(1.0, self.slots * team.weight / weights)

    def _admit(self, team: _Team, item: Waiting, slots: int) -> None:
        del team.waiting[id(item)]
        team.waiting_tokens -= item.tokens
        self.waiting -= 1
        item.slots = slots
        team.finish += item.tokens / team.weight
        team.in_use += slots
        self.in_use += slots

    def _push_out(self, comer: _Team) -> Waiting:
        def over(team: _Team) -> tuple[int, float]:
            return team.rank, (len(team.waiting) + (team is comer)) / team.weight

        victim = max((team for team in self._teams.values() if team.waiting), key=over, default=comer)
        if victim is comer or over(victim) <= over(comer):
            others = any(team.active for team in self._teams.values() if team is not comer)
            self._forget(comer)
            weights = sum(team.weight for team in self._teams.values() if team.active or team is comer)
            allowed = self.most_waiting * comer.weight / weights
            raise NoRoom("over_share" if others and len(comer.waiting) + 1 > allowed else "full")
        _, item = victim.waiting.popitem(last=True)
        victim.waiting_tokens -= item.tokens
        self.waiting -= 1
        self._forget(victim)
        return item

    def _forget(self, team: _Team) -> None:
        """Forget a team that is gone and whose tag is not ahead; all of them once none is left."""
        if team.active:
            return
        if not self.in_use and not self.waiting:
            self._teams.clear()
            self._virtual.clear()
        elif team.finish <= self._virtual.get(team.rank, 0.0):
            self._teams.pop(team.name, None)
