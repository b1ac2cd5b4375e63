"""Patience with Ray's start on a machine under load.

Ray 2.60.0 gives its GCS 30 s to publish a port (RAY_gcs_server_port_wait_time_s, see environment.py) and its raylet
30 s to register, which nothing sets: Node.__init__ in ray/_private/node.py raises a bare Exception then. Meanwhile it
asks services.get_node again and again; here that function waits itself, as long as the raylet lives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray._private.services as services

RAY_START_S = 300
"""Longest time that a part of Ray may take to start, in seconds."""

_ASK_AGAIN_S = 0.25
_SAID_AFTER_S = 10.0


@contextmanager
def patient(say: Callable[[str], None]) -> Iterator[None]:
    """Let Ray's own node take up to RAY_START_S to register; `say` is told what the start waits for.

    Raises RuntimeError where Ray gives up on it.
    """
    ask = services.get_node

    def get_node(gcs_address: str, node_id: str) -> Any:
        began = time.monotonic()
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # not registered yet
                waited = time.monotonic() - began
                if waited > RAY_START_S or not _raylet_lives():
                    raise
            if waited > _SAID_AFTER_S:
                say(waiting_words())
            time.sleep(_ASK_AGAIN_S)

    services.get_node = get_node
    try:
        yield
    except Exception as error:
        if type(error) is Exception:  # what Ray raises itself
            raise RuntimeError(str(error)) from error
        raise
    finally:
        services.get_node = ask


def waiting_words() -> str:
    """Stage of a start that waits for the raylet, with the machine's load where that is the likely reason."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = f"; the machine is busy, load {load:.0f} on {cores} cores" if load > 2 * cores else ""
    return f"waiting for its raylet to register, at most {RAY_START_S} s{busy}"


def _raylet_lives() -> bool:
    """Whether a raylet that this process has started is there."""
    for child in psutil.Process().children():
        try:
            if child.name().startswith("raylet") and child.status() != psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            continue
    return False
