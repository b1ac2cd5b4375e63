"""The seam between limits and where they are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.settings.limits import Unit
from serving.settings.teams import Team

WINDOW = 61
"""Seconds that a minute's limit looks back, the one that runs included: no 60 s ever have more than the limit."""

HOLDER_LIFE_S = 15.0
"""A replica that was not heard of for so long is gone, and what it held concurrently is free."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Requests, tokens and concurrent requests ("slots")."""

    requests: int = 0
    tokens: int = 0
    slots: int = 0

    def of(self, unit: Unit) -> int:
        """The amount in `unit`."""
        return self.requests if unit == "requests" else self.tokens if unit == "tokens" else self.slots


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What a replica takes for a team: `need`, all or nothing, and as much of `spare` as does no harm.

    `holder` names the replica. `held` is how many slots it has taken for the team, those it is asking for elsewhere
    included, and `sequence` grows with every message of the holder's, so that a late one does not undo a newer one.
    """

    team: str
    limits: Team
    holder: str
    sequence: int
    held: int
    need: Amounts
    spare: Amounts = Amounts()


@dataclass(frozen=True, slots=True)
class Window:
    """A minute's limit: what is left of it, and in how many seconds all of it is."""

    limit: int
    left: int
    full_in_s: float


@dataclass(frozen=True, slots=True)
class Granted:
    """`got` is what was needed, and what was given to spare. Windows are None where there is no limit."""

    got: Amounts
    requests: Window | None
    tokens: Window | None


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal: nothing was taken.

    The kind called `limit` has no room before `retry_after_s` have passed; None where nobody can tell.
    """

    limit: str
    retry_after_s: float | None
    requests: Window | None
    tokens: Window | None


@dataclass(frozen=True, slots=True)
class Correction:
    """What was taken `age_s` ago was so much too little; too much where negative."""

    age_s: float
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """Corrections of a team's, and how many slots the holder has now."""

    team: str
    limits: Team
    holder: str
    sequence: int
    held: int
    corrections: tuple[Correction, ...] = ()


class LimitStore(Protocol):
    """Counts for all replicas. Implemented in memory, in Redis, and by the handle to an actor in the cluster.

    Methods raise StoreUnavailableError when the backend cannot be reached or does not answer.
    """

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """Take what is asked for, or nothing."""
        ...

    async def report(self, reports: Sequence[Report]) -> None:
        """Put right what was taken before."""
        ...

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """Tokens of this day and this month, by team, that were used before the store began to count.

        Only the first time counts; a store that outlives restarts needs none.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. May be called more than once."""
        ...
