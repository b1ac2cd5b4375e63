"""Models of the settings that this machine's GPUs cannot hold, told before anything is started."""

from __future__ import annotations

from serving.planning.gpus import GIB, Gpu
from serving.planning.models import known_models
from serving.planning.plan import MEMORY_UTILIZATION, Plan
from serving.settings.layer import KeyPath
from serving.settings.tree import Settings


def misfits(settings: Settings, gpu_name: str, memory_bytes: int) -> list[tuple[KeyPath, str]]:
    """Known models whose weights alone do not fit on GPUs of `memory_bytes`, with the fix.

    Nothing is said of what may fit: how much else is needed is an assumption (Plan.reserve), and vLLM measures it.
    """
    # Only the memory matters here; the others bound the throughput.
    gpu = Gpu(gpu_name, memory_bytes / GIB, bandwidth_tbs=1, tflops=1)
    shapes = {shape.source: shape for shape in known_models().values()}
    found: list[tuple[KeyPath, str]] = []
    for name, model in settings.models.items():
        if (shape := shapes.get(model.source)) is None:
            continue
        plan = Plan(
            shape,
            gpu,
            model.tensor_parallel_size,
            model.pipeline_parallel_size,
            context=min(model.max_model_len or shape.context, shape.context),
            streams=1,
            utilization=float(model.engine_args.get("gpu_memory_utilization", MEMORY_UTILIZATION)),
            reserve_gib=0.0,
        )
        if plan.kv_gib <= 0:
            found.append((("models", name, "tensor_parallel_size"), "; ".join(plan.problems())))
    return found
