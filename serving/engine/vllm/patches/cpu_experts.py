"""Patch: LoRA adapters on a CPU.

Where adapters are allowed vLLM 0.32 takes Triton's kernels for a model's experts, which a CPU has not, and the first
step fails; even though no adapter changes experts there (vllm/model_executor/layers/fused_moe/oracle/unquantized.py,
select_unquantized_moe_backend, called in unquantized_fused_moe_method.py beside it). Loaded by vLLM like parent.py.
"""

from __future__ import annotations

import copy
import functools
import multiprocessing
from typing import Any

from serving.engine.device import installed_device
from serving.engine.vllm.source import WatchedSource

_FOLDER = "model_executor/layers/fused_moe"
WATCHED = (
    WatchedSource(
        f"{_FOLDER}/oracle/unquantized.py",
        "select_unquantized_moe_backend",
        "0.32.0",
        "e47b8142a05cf75a2b9302d47998556604836254d1971e6722bf5d95c558614f",
    ),
    WatchedSource(
        f"{_FOLDER}/unquantized_fused_moe_method.py",
        "UnquantizedFusedMoEMethod.__init__",
        "0.32.0",
        "e733285a5e84adf0414f06a58d99dbec6a72b895ffcbccffa5eef24e3495094f",
    ),
)


def keep_cpu_experts() -> None:
    """In an engine's processes, on the CPU: choose the experts' kernels as if there were no adapters."""
    if multiprocessing.parent_process() is None or installed_device() != "cpu":
        return
    from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as method

    original = method.select_unquantized_moe_backend
    if getattr(original, "for_cpu", False):
        return

    @functools.wraps(original)
    def select(moe_config: Any) -> Any:
        plain = copy.copy(moe_config)
        plain.is_lora_enabled = False
        return original(moe_config=plain)

    select.for_cpu = True  # type: ignore[attr-defined]  # a mark on our own function, read above
    method.select_unquantized_moe_backend = select  # vLLM has no hook for this
