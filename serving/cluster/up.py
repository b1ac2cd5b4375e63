"""`serving up`: checks what can be checked at once, then runs the cluster as a child and outlives all of it."""

from __future__ import annotations

import os
import pickle
import sys

from serving.cluster.environment import port_is_free, ray_environment
from serving.cluster.process_tree import Supervisor
from serving.errors import SettingsError
from serving.settings import Settings


def up(settings: Settings) -> int:
    """Serve until stopped. Returns the exit status; raises SettingsError for an address that cannot be had."""
    _check_address(settings)
    environment = ray_environment(settings, cores=len(os.sched_getaffinity(0)))
    # Settings travel over a pipe: a command line can be read by every user of the machine.
    return Supervisor().run([sys.executable, "-m", "serving.cluster.run"], pickle.dumps(settings), environment)


def _check_address(settings: Settings) -> None:
    if settings.ray_address is not None:
        return
    try:
        free = port_is_free(settings.host, settings.port)
    except OSError as error:
        raise SettingsError([("host", f"cannot listen on {settings.host}: {error.strerror}; use 127.0.0.1")]) from error
    if not free:
        raise SettingsError(
            [("port", f"{settings.port} is in use; stop what listens there (ss -ltnp) or choose another with --port")]
        )
