"""Spares each worker of a CPU engine the import of vLLM, some 15 s of one core.

In a Ray actor vLLM 0.32 has all its processes spawned (vllm/utils/system_utils.py, _maybe_force_spawn), because Ray's
threads do not survive a fork. The engine's own process has none of them, and elsewhere vLLM forks its workers from it.
Loaded by vLLM like parent.py.
"""

from __future__ import annotations

import multiprocessing
import os

from serving.engine.device import installed_device

_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


def fork_workers() -> None:
    """In an engine's own process, on the CPU: let its workers be forked, as vLLM does by default."""
    name = multiprocessing.current_process().name
    if multiprocessing.parent_process() is None or not name.startswith("EngineCore"):
        return
    if os.environ.get(_METHOD) == "spawn" and installed_device() == "cpu":
        del os.environ[_METHOD]
