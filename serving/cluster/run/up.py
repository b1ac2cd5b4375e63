"""`serving up`: checks what can be checked at once, then runs the cluster as a child and outlives all of it."""

from __future__ import annotations

import os
import pickle
import sys

import typer

from serving.cluster.run.control import DONE, hand_over, is_listening
from serving.cluster.run.environment import patience_environment, port_is_free, ray_environment
from serving.cluster.run.process_tree import Supervisor
from serving.errors import ClusterError, SettingsError
from serving.settings.tree import Settings


def up(settings: Settings) -> int:
    """Serve until stopped. Returns the exit status; raises SettingsError for an address that cannot be had."""
    if not _is_free(settings):
        raise _in_use(settings)
    environment = ray_environment(settings, cores=len(os.sched_getaffinity(0))) | patience_environment()
    # Settings travel over a pipe: a command line can be read by every user of the machine.
    return Supervisor().run([sys.executable, "-m", "serving.cluster.run.server"], pickle.dumps(settings), environment)


def update(settings: Settings) -> int:
    """Hand the settings to the `serving up` that runs on their port, which rolls them out.

    Returns the exit status; raises SettingsError where there is none.
    """
    last = ""
    try:
        for line in hand_over(settings):
            last = line
            if line != DONE:
                typer.echo(line, err=True)
    except ClusterError as error:
        raise SettingsError([("port", f"{error}; start one with the same command, without --update")]) from error
    if last == DONE:
        typer.echo(f"The server on port {settings.port} has taken these settings.")
    return 0 if last == DONE else 1


def _in_use(settings: Settings) -> SettingsError:
    advice = f"{settings.port} is in use; stop what listens there (ss -ltnp) or choose another with --port"
    if is_listening(settings.port):
        advice += "; or add --update to have the `serving up` there take these settings"
    return SettingsError([("port", advice)])


def _is_free(settings: Settings) -> bool:
    if settings.ray_address is not None:
        return True
    try:
        return port_is_free(settings.host, settings.port)
    except OSError as error:
        raise SettingsError([("host", f"cannot listen on {settings.host}: {error.strerror}; use 127.0.0.1")]) from error
