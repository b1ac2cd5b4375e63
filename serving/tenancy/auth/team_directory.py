"""Directory of the teams in force, by key; follows changes of the teams file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import SettingsError
from serving.settings.keys import KeyHash, split
from serving.settings.limits import LIMIT_KINDS
from serving.settings.loading.teams_file import read_teams_file
from serving.settings.teams import StoredKey, Team

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds between two looks at the file. A key that is revoked must stop within 2 s."""

_REMIND_S = 60.0
# Compared with where a key is unknown, so that this takes as long as a key that is wrong.
_NOBODY = KeyHash(bytes(16), bytes(32))
_Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a request's sender: the team, its policy, and the id of its key ("" where no key is needed).

    `limited` says whether the policy has a limit of any kind.
    """

    team: str
    policy: Team
    key_id: str = ""
    limited: bool = field(init=False)

    def __post_init__(self) -> None:
        limited = any(self.policy.limit(kind) is not None for kind in LIMIT_KINDS)
        object.__setattr__(self, "limited", limited)


class TeamDirectory:
    """Directory of teams by key. `clock` gives seconds since the epoch; keys expire by it.

    A new file that cannot be read or is wrong changes nothing: the teams before it stay in force. The log says so at
    once, and then once a minute for as long as the file stays wrong.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Read `path`; raises SettingsError."""
        self._path = path
        self._clock = clock
        self._mark = _mark(path)
        self._reminded = 0.0
        self._teams: Mapping[str, Team] = {}
        self._keys: dict[str, tuple[StoredKey, Identity]] = {}
        self.failed_reloads = 0
        self.wrong: SettingsError | None = None
        self._adopt(read_teams_file(path).teams)

    @property
    def teams(self) -> Mapping[str, Team]:
        """All teams by name."""
        return self._teams

    def identify(self, text: str) -> Identity | None:
        """Identity of the team that the key `text` belongs to; None for a key that is not accepted, for any reason.

        One look-up and one hash, also for an unknown key: the time taken tells nothing.
        """
        key = split(text)
        found = self._keys.get(key.id) if key else None
        matches = (found[0].hash if found else _NOBODY).matches(key.secret if key else "")
        if found is None or not matches or not found[0].usable(self._clock()):
            return None
        return found[1]

    async def watch(self) -> None:
        """Read the file again whenever it changes; runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            # In a thread: the file may lie on a disk that hangs.
            mark = await asyncio.to_thread(_mark, self._path)
            if mark == self._mark:
                self._remind()
                continue
            self._mark = mark
            try:
                teams = (await asyncio.to_thread(read_teams_file, self._path)).teams
            except SettingsError as error:
                self.wrong = error
                self.failed_reloads += 1
                self._reminded = self._clock()
                logger.error("the teams file changed and is wrong; the teams before it stay in force:\n%s", error)
                continue
            self.wrong = None
            self._adopt(teams)
            logger.info("read %s again: %d teams, %d keys", self._path, len(teams), len(self._keys))

    def _remind(self) -> None:
        if self.wrong is not None and self._clock() - self._reminded >= _REMIND_S:
            self._reminded = self._clock()
            logger.error("the teams file is still wrong; older teams are in force:\n%s", self.wrong)

    def _adopt(self, teams: Mapping[str, Team]) -> None:
        self._teams = teams
        self._keys = {key.id: (key, Identity(name, team, key.id)) for name, team in teams.items() for key in team.keys}


def _mark(path: Path) -> _Mark | None:
    """Mark of the file's state, which changes when the file does; None while there is no file.

    Follows links: Kubernetes swaps one of a Secret's links and leaves the files as they are.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
