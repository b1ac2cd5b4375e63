"""Throughput bound of a running engine, from its settings and the GPU that it runs on."""

from __future__ import annotations

from serving.engine.accelerator import Accelerator
from serving.planning.gpus import GPUS, Gpu
from serving.planning.models import known_models
from serving.planning.plan import Plan
from serving.settings.models import ModelSettings


def bound_tokens_s(model: ModelSettings, accelerator: Accelerator, streams: int, context: int) -> float | None:
    """Generated tokens a second that `model`'s engine cannot pass with `streams` sequences in the middle of `context`.

    It is the last row of what `serving plan` prints. None for a model or a GPU that is not in its tables.
    """
    shape = next((each for each in known_models().values() if each.source == model.source), None)
    gpu = _gpu(accelerator)
    if shape is None or gpu is None:
        return None
    plan = Plan(shape, gpu, model.tensor_parallel_size, model.pipeline_parallel_size, context, streams)
    half = max(1, context // 2)
    fitting = max(1, plan.cache.decoding(plan.kv_bytes, half))
    return plan.decode_bound(min(streams, fitting), half)[0]


def _gpu(accelerator: Accelerator) -> Gpu | None:
    """The GPU of the table with the name that the driver gives, which its nodes' label has with dashes."""
    product = accelerator.name.replace(" ", "-")
    return next((gpu for gpu in GPUS.values() if gpu.product == product), None)
