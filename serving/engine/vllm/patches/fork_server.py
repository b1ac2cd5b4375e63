"""Patch: engine processes from a fork server, which imports vLLM while the replica does; the import takes some 15 s.

In a Ray actor vLLM 0.32 has its processes spawned (vllm/utils/system_utils.py, _maybe_force_spawn), because Ray's
threads do not survive a fork, and a spawned process imports everything again. A fork server has none of those threads.
The patch replaces get_mp_context in vllm/v1/engine/utils.py.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

from serving.engine.device import Device
from serving.engine.vllm.source import WatchedSource

WATCHED = (
    WatchedSource(
        "v1/engine/utils.py",
        "get_mp_context",
        "0.32.0",
        "4c906e202f7771afc6bd5ea5d3881868ee04a258baaadcb1d1ec73964400dec8",
    ),
    WatchedSource(
        "v1/engine/utils.py",
        "CoreEngineProcManager.__init__",
        "0.32.0",
        "c318c0b867ad7d171d453ad52372cd0ddc6c654f1c40d1f445f120c0611541ff",
    ),
    WatchedSource(
        "utils/system_utils.py",
        "get_mp_context",
        "0.32.0",
        "0a2d1f717cdebfc482b987c21525255b9c25d31e8525dc7a8dcc65241e6fbec0",
    ),
    WatchedSource(
        "utils/system_utils.py",
        "_maybe_force_spawn",
        "0.32.0",
        "2de5ff290b351fd4fbc9ebb56fa7af4634d5afe07f520cd0574e32e5631a02f2",
    ),
)

# None of them touches a GPU: a process forked after that could not use one.
_MODULES: Mapping[Device, tuple[str, ...]] = {
    "cpu": (
        "vllm.v1.engine.core",
        "vllm.v1.executor.uniproc_executor",
        "vllm.v1.worker.cpu_worker",
        "vllm.model_executor.models.gpt_oss",
    ),
    "cuda": (
        "vllm.v1.engine.core",
        "vllm.v1.worker.gpu_worker",
        "vllm.v1.worker.gpu.model_runner",
        "vllm.model_executor.models.gpt_oss",
    ),
}


def start_fork_server(device: Device) -> None:
    """Start the fork server and return at once; it imports vLLM, and ends with this process.

    The engine's processes have the environment of this moment.
    """
    # Workers are forked from the engine's process, unless somebody has asked for something else (vllm/envs.py).
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    multiprocessing.set_forkserver_preload(["serving.engine.vllm.process_title", *_MODULES[device]])
    forkserver.ensure_running()


def make_engines_with_it() -> None:
    """Have vLLM make its engine processes with the fork server from now on."""
    from vllm.v1.engine import utils

    # vLLM knows spawn and fork only; utils takes the context from there, and makes nothing but engine processes.
    utils.get_mp_context = _context


def _context() -> BaseContext:
    return multiprocessing.get_context("forkserver")
