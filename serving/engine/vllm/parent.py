"""Ends vLLM's processes when the process that made them is gone.

vLLM 0.32 leaves VLLM::EngineCore and VLLM::Worker running, memory and all, when their parent is killed. It loads the
entry points of the group `vllm.general_plugins` in each of its processes (vllm/plugins/__init__.py); this is one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def watch_parent() -> None:
    """Kill this process as soon as its parent is gone. Does nothing in a process that multiprocessing did not make.

    The sentinel is a pipe whose other end only the parent holds, so it works on any thread, unlike the kernel's
    parent-death signal, which follows the thread that forked.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=_kill_after, args=(parent.sentinel,), name="watch-parent", daemon=True).start()


def _kill_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
