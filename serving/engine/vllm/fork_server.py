"""Imports vLLM for an engine's processes while the replica imports it for itself: some 15 s of one core each.

In a Ray actor vLLM 0.32 has its processes spawned (vllm/utils/system_utils.py, _maybe_force_spawn), because Ray's
threads do not survive a fork, and a spawned process imports everything again. A fork server has none of those threads.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

from serving.engine.device import Device

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
    """Returns at once; the import goes on in another process, which ends with this one.

    The engine's processes have the environment of this moment.
    """
    # Workers are forked from the engine's process, unless somebody has asked for something else (vllm/envs.py).
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    multiprocessing.set_forkserver_preload(["serving.engine.vllm.process_title", *_MODULES[device]])
    forkserver.ensure_running()


def make_engines_with_it() -> None:
    """From now on vLLM makes its engine processes with the fork server."""
    from vllm.v1.engine import utils

    # vLLM knows spawn and fork only; utils takes the context from there, and makes nothing but engine processes.
    utils.get_mp_context = _context


def _context() -> BaseContext:
    return multiprocessing.get_context("forkserver")
