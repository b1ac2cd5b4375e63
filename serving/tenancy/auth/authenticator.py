"""Authentication of requests by key: a team's, or the administrator's."""

from __future__ import annotations

from pathlib import Path

from serving.errors import SettingsError
from serving.settings.keys import KeyHash, split
from serving.settings.teams import Team
from serving.settings.tree import Settings
from serving.tenancy.auth.team_directory import Identity, TeamDirectory

OPEN = Identity("default", Team())
"""Identity of every request where no teams file is set."""


class Authenticator:
    """Authenticator of teams and of the administrator.

    Without a directory all requests belong to one team without limits.
    """

    def __init__(self, directory: TeamDirectory | None, admin: KeyHash | None) -> None:
        self._directory = directory
        self._admin = admin

    @property
    def open(self) -> bool:
        """Whether teams need no key."""
        return self._directory is None

    @property
    def admin_is_open(self) -> bool:
        """Whether the administrator's routes need no key: teams need none, and no administrator's key is set."""
        return self._directory is None and self._admin is None

    def identify(self, key: str) -> Identity | None:
        """Identity of the team that `key` belongs to; None for a key that is not accepted."""
        return OPEN if self._directory is None else self._directory.identify(key)

    def identity_of(self, team: str, key_id: str) -> Identity | None:
        """Identity of a team now, for work in its name; None for a team that there is no more."""
        if self._directory is None:
            return OPEN if team == OPEN.team else None
        policy = self._directory.teams.get(team)
        return None if policy is None else Identity(team, policy, key_id)

    def is_admin(self, key: str) -> bool:
        """Whether `key` is the administrator's."""
        if self._admin is None:
            return False
        given = split(key)
        # Compared even where it cannot match, so that the time taken tells nothing.
        return self._admin.matches(given.secret if given else "")


def admin_hash(settings: Settings) -> KeyHash | None:
    """Hash of the administrator's key, from the settings or its file; raises SettingsError."""
    if settings.admin_key_hash is not None:
        return KeyHash.parse(settings.admin_key_hash)
    if settings.admin_key_file is None:
        return None
    try:
        return KeyHash.parse(Path(settings.admin_key_file).read_text(encoding="utf-8").strip())
    except OSError as error:
        reason = f"cannot read {settings.admin_key_file}: {error.strerror}"
        raise SettingsError([("admin_key_file", reason)]) from error
    except ValueError as error:
        reason = f"what {settings.admin_key_file} holds is no hash of a key: run `serving keys new --admin`"
        raise SettingsError([("admin_key_file", reason)]) from error
