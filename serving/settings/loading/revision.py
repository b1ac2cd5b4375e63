"""Wait for a revision of a settings file that arrives later than the order to use it, as a mounted ConfigMap does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from serving.errors import SettingsError

WAIT_S = 240.0
"""Timeout in seconds: kubelets renew mounted ConfigMaps about once a minute, and cache them for as long again."""

_MARK = re.compile(r"^# revision (?P<revision>\S+)\s*$", re.MULTILINE)
_POLL_S = 0.5


def wait_for_revision(
    path: Path,
    revision: str,
    *,
    seconds: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once the file's line `# revision ...` names `revision`; raises SettingsError after `seconds`.

    Without this a rollout could build the application from the file of the rollout before.
    """
    deadline = clock() + seconds
    while (found := _revision(path)) != revision:
        if clock() >= deadline:
            there = f"has revision {found}" if found else "has no line `# revision ...` or cannot be read"
            raise SettingsError([(str(path), f"should have revision {revision}; after {seconds:g} s it {there}")])
        sleep(_POLL_S)


def _revision(path: Path) -> str | None:
    try:
        found = _MARK.search(path.read_text())
    except (OSError, UnicodeDecodeError):
        # Not mounted yet, or in the middle of being replaced: looked at again.
        return None
    return found["revision"] if found else None
