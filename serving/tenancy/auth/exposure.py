"""Exposure check: a server without keys listens to other machines only where the settings say so."""

from __future__ import annotations

from serving.errors import SettingsError
from serving.settings.http import LOOPBACK
from serving.settings.tree import Settings


def check_exposure(settings: Settings, host: str | None = None) -> None:
    """Raise SettingsError where other machines would be served without keys, unless `open: true` is set.

    `host` is the host on which the API listens, where that is not `settings.host`.
    """
    listens_on = settings.host if host is None else host
    if settings.open or settings.teams_file is not None or listens_on in LOOPBACK:
        return
    raise SettingsError(
        [
            (
                "teams_file",
                f"is missing, and whoever reaches {listens_on} would be served: name a teams file, listen on "
                "127.0.0.1, or say `open: true` (--open) if that is what you want",
            )
        ]
    )
