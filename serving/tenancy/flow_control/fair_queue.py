"""Which waiting request an engine gets next: shared fairly by tokens between teams.

Start-time fair queueing (Goyal, Vin and Cheng, 1996). Each team has a tag that grows by tokens over weight with every
request of its that is let in; the team with the lowest tag goes next. A team that was away starts where the others
are now, so it has saved up nothing, and owes nothing. What a request really cost is put right when it is over.

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
"""Why there is no room to wait: the team has more waiting than its share, or everyone together has."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that wants to be let in.

    `rank` is its class, 0 before 1. `tokens` is what it will cost, as far as one can tell. `places` is how many
    sequences of an engine it takes.
    """

    team: str
    weight: float = 1.0
    rank: int = 0
    tokens: float = 1.0
    places: int = 1


class NoRoom(Exception):
    """There is no room to wait; `reason` says whose fault that is."""

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
    """`places` sequences run at a time, and at most `most_waiting` requests wait.

    Of the places `reserve` are kept for teams below their share, so that one who comes while another floods does not
    wait for one of its long answers to end; with `newcomers` False there is one team alone, and nothing is kept. A
    team's share is its weight's part of those that are there, and one more that might come.
    """

    def __init__(self, places: int, *, reserve: int, most_waiting: int, newcomers: bool = True) -> None:
        self._teams: dict[str, _Team] = {}
        self._virtual: dict[int, float] = {}
        self._newcomer = 1.0 if newcomers else 0.0
        self._reserve = reserve
        self.most_waiting = most_waiting
        self.places = places
        self.in_use = 0
        self.waiting = 0

    def resize(self, places: int, *, reserve: int, most_waiting: int) -> None:
        """There are more or fewer engines now; who is in stays in, and who waits goes on waiting."""
        self.places, self._reserve, self.most_waiting = places, reserve, most_waiting

    def arrive(self, item: Waiting) -> Waiting | None:
        """Line up. Returns a request of another team that has to go for it, if one has; raises NoRoom.

        Who has to go is the newest of the team that is furthest over its share of the line, lower classes first.
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
        """Let the next one in; None where nobody may. Its places are taken until free() gives them back."""
        behind = set[int]()
        for team in self._in_order():
            if team.rank not in behind:
                # The lowest tag of those that wait, even if it is passed over: who comes now starts beside it.
                behind.add(team.rank)
                self._virtual[team.rank] = max(self._virtual.get(team.rank, 0.0), team.finish)
            item = next(iter(team.waiting.values()))
            places = min(item.places, max(1, self.places - self._kept))
            free = self.places - self.in_use
            if places > free:
                return None  # smaller ones behind it would keep it waiting for ever
            if places > free - self._kept and team.in_use + places > self._share(team):
                continue
            self._let_in(team, item, places)
            return item
        return None

    def leave(self, item: Waiting) -> bool:
        """Waits no longer; False where it is not in line any more."""
        team = self._teams.get(item.team)
        if team is None or team.waiting.pop(id(item), None) is None:
            return False
        self.waiting -= 1
        team.waiting_tokens -= item.tokens
        self._forget(team)
        return True

    def free(self, team_name: str, places: int) -> None:
        """Give places back."""
        team = self._teams[team_name]
        team.in_use -= places
        self.in_use -= places
        self._forget(team)

    def settle(self, team_name: str, tokens: float) -> None:
        """A request cost so many tokens more than it was said to; fewer where negative."""
        if team := self._teams.get(team_name):
            team.finish += tokens / team.weight

    def ahead(self, item: Waiting) -> float:
        """About how many tokens go before `item`, were it to arrive now."""
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
        """The part of all tokens that the team of `item` has a right to, among the teams that are there now."""
        weights = sum(team.weight for team in self._teams.values() if team.active and team.name != item.team)
        return item.weight / (weights + item.weight)

    def waiting_of(self, team_name: str) -> int:
        """How many of a team's requests wait."""
        team = self._teams.get(team_name)
        return len(team.waiting) if team else 0

    @property
    def fill(self) -> float:
        """How full the line is, 0 to 1."""
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
        return max(1.0, self.places * team.weight / weights)

    def _let_in(self, team: _Team, item: Waiting, places: int) -> None:
        del team.waiting[id(item)]
        team.waiting_tokens -= item.tokens
        self.waiting -= 1
        item.places = places
        team.finish += item.tokens / team.weight
        team.in_use += places
        self.in_use += places

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
        """Keep no team that is gone and owes nothing; when all are gone, nobody owes anything."""
        if team.active:
            return
        if not self.in_use and not self.waiting:
            self._teams.clear()
            self._virtual.clear()
        elif team.finish <= self._virtual.get(team.rank, 0.0):
            self._teams.pop(team.name, None)
