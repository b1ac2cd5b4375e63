"""Rate limits' store: the protocol, and the messages between a replica and a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.settings.limits import Unit
from serving.settings.teams import Team

WINDOW = 61
"""Seconds of a minute's sliding window, the current second included: no 60 s ever have more than the limit."""

HOLDER_LIFE_S = 15.0
"""Seconds without a message after which a replica counts as gone and its slots are free."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts of requests, tokens and concurrent requests ("slots")."""

    requests: int = 0
    tokens: int = 0
    slots: int = 0

    def of(self, unit: Unit) -> int:
        """Amount in `unit`."""
        return self.requests if unit == "requests" else self.tokens if unit == "tokens" else self.slots


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Acquisition of a replica for a team: `need`, all or nothing, and as much of `spare` as does no harm.

    `holder` names the replica. `held` is how many slots the replica holds for the team, those of its other pending
    acquisitions included. `sequence` grows with every message of the holder, so that a late message does not undo a
    newer one.
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
    """State of a limit per minute: what is left of it, and in how many seconds all of it is."""

    limit: int
    left: int
    full_in_s: float


@dataclass(frozen=True, slots=True)
class Granted:
    """Grant: `got` is what was needed, and what was granted to spare. Windows are None where there is no limit."""

    got: Amounts
    requests: Window | None
    tokens: Window | None


@dataclass(frozen=True, slots=True)
class Denied:
    """Denial: nothing was taken.

    `limit` names the kind that is used up. `retry_after_s` is when it has room again, None where that is not known.
    """

    limit: str
    retry_after_s: float | None
    requests: Window | None
    tokens: Window | None


@dataclass(frozen=True, slots=True)
class Correction:
    """Correction of what was taken `age_s` ago: so much more was used, or less where negative."""

    age_s: float
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a replica on a team: corrections, and how many slots the holder has now."""

    team: str
    limits: Team
    holder: str
    sequence: int
    held: int
    corrections: tuple[Correction, ...] = ()


class LimitStore(Protocol):
    """Store that counts limits for all replicas: in memory, in Redis, or in an actor of the cluster.

    Methods raise StoreUnavailableError when the backend cannot be reached or does not answer.
    """

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """Take all that is needed, or nothing."""
        ...

    async def report(self, reports: Sequence[Report]) -> None:
        """Settle what was taken before."""
        ...

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """Count the tokens of this day and this month, by team, that were used before the store began to count.

        Only the first call counts; a store that outlives restarts needs none.
        """
        ...

    async def close(self) -> None:
        """Close connections. May be called more than once."""
        ...
