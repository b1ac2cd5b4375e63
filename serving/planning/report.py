"""Report of a plan, in words and as the chart's values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from serving.engine.accelerator import Accelerator
from serving.engine.vllm.plan import engine_arguments
from serving.planning.gpus import GIB
from serving.planning.plan import MEMORY_UTILIZATION, Plan
from serving.settings.models import ModelSettings

_HOST_GIB_BESIDE_WEIGHTS = 16
_INGRESS_REPLICAS = 2
"""The chart's own number where the settings have none."""
_VALUES_WIDTH = 120

ADMIN_SECRET = "gpt-oss-admin"
"""Secret with the administrator's key (`admin-key`) and its hash (`admin-key-hash`), for the chart."""

_STREAMS = (1, 8, 32, 64, 128, 256, 512, 1024)


def engine(plan: Plan, replicas: int) -> Iterator[str]:
    """Arguments that vLLM would get for the plan on that GPU, with the source of each value."""
    if plan.gpu.capability is None:
        return
    (model,) = values(plan, replicas)["settings"]["models"].values()
    accelerator = Accelerator("cuda", plan.gpu.name, plan.gpu.capability, int(plan.gpu.memory_gib * GIB))
    settings = ModelSettings.model_validate(model)
    yield f"vLLM would get on {accelerator.architecture}, without a CUDA toolkit"
    for name, chosen in engine_arguments(plan.model.name, settings.source, settings, accelerator).items():
        yield f"  {name} = {chosen.value}  ({chosen.source})"


def report(plan: Plan, replicas: int) -> Iterator[str]:
    """Lines of the report."""
    model, cache = plan.model, plan.cache
    engines = f"{replicas} engine{'s' if replicas != 1 else ''} of {plan.gpus} GPU{'s' if plan.gpus != 1 else ''}"
    yield f"{model.name} on {engines}, {plan.gpu.name}"
    yield ""
    yield _line(
        "parameters", f"{model.parameters / 1e9:.2f} billion, {model.active_parameters / 1e9:.2f} at work on a token"
    )
    yield _line("checkpoint", f"{model.weight_bytes / GIB:.1f} GiB ({model.weight_bytes / 1e9:.1f} GB)")
    yield ""
    yield "memory of each GPU"
    yield _line("in all", f"{plan.gpu.memory_gib:6.1f} GiB, of which vLLM takes {plan.utilization:.0%}", 2)
    yield _line("weights", f"{plan.weights_gib:6.1f} GiB, as the kernels of this GPU lay them out", 2)
    yield _line("reserve", f"{plan.reserve:6.1f} GiB: runtime and activations (assumed; --reserve replaces it)", 2)
    yield _line("KV cache", f"{max(plan.kv_gib, 0):6.1f} GiB", 2)
    if problems := plan.problems():
        yield ""
        yield from (f"does not fit: {problem}" for problem in problems)
        return
    yield ""
    yield "KV cache of one engine"
    window = model.sliding_window
    yield _line(
        "a token",
        f"{cache.token_bytes / 1024:.1f} KiB on each GPU: {model.full_layers} full layers; the {model.sliding_layers} "
        f"sliding ones keep {window} tokens",
        2,
    )
    yield _line("a sequence", _sequence(plan), 2)
    blocks = cache.blocks(plan.kv_bytes)
    yield _line(
        "in all", f"{blocks:,} blocks of {cache.block_size} tokens; longest sequence {_longest(plan):,} tokens", 2
    )
    yield _line(
        "streams",
        f"{plan.fitting_streams:,} of {plan.context:,} tokens while they are answered; vLLM reports "
        f"{cache.sequences(plan.kv_bytes, plan.context):.1f}, for all of them in prefill",
        2,
    )
    if plan.fitting_streams < plan.streams:
        yield _line("", f"the other {plan.streams - plan.fitting_streams} of --streams {plan.streams} would wait", 2)
    yield ""
    yield from _bounds(plan, replicas)


def _sequence(plan: Plan) -> str:
    cache = plan.cache
    decoding, most = (
        blocks * cache.block_bytes / 1024**2
        for blocks in (cache.blocks_decoding(plan.context), cache.blocks_at_most(plan.context))
    )
    return f"of {plan.context:,} tokens {decoding:,.0f} MiB on each GPU, at most {most:,.0f} in its prefill"


def _longest(plan: Plan) -> int:
    return min(plan.cache.longest(plan.kv_bytes), plan.model.context)


def _bounds(plan: Plan, replicas: int) -> Iterator[str]:
    yield "no engine can be faster than (bounds by the data sheet; half of them is good work)"
    yield f"  {'streams':>8}  {'tokens/s':>10}  {'a stream':>10}  limited by"
    half = max(1, plan.context // 2)
    for streams in sorted({*(n for n in _STREAMS if n < plan.streams), plan.streams}):
        if streams > max(plan.cache.decoding(plan.kv_bytes, half), 1):
            break
        rate, limit = plan.decode_bound(streams, half)
        yield f"  {streams:>8,}  {rate:>10,.0f}  {rate / streams:>10,.0f}  {limit}"
    yield f"  each stream in the middle of its context, {half:,} tokens; prefill {plan.prefill_bound():,.0f} tokens/s"
    if replicas > 1:
        yield f"  {replicas} engines together: {replicas} times that"


def _line(label: str, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}{label:<{14 - indent}}{text}"


def values(plan: Plan, replicas: int) -> dict[str, Any]:
    """Values of the Helm chart for the plan; `settings` in it is a settings file of its own."""
    engine_args: dict[str, Any] = {}
    if plan.batched_tokens is not None:
        engine_args["max_num_batched_tokens"] = plan.batched_tokens
    if plan.utilization != MEMORY_UTILIZATION:
        engine_args["gpu_memory_utilization"] = plan.utilization
    if plan.kv_element_bytes == 1:
        engine_args["kv_cache_dtype"] = "fp8"
    model: dict[str, Any] = {"source": plan.model.source}
    for name, count in (("tensor", plan.tensor_parallel), ("pipeline", plan.pipeline_parallel)):
        if count > 1:
            model[f"{name}_parallel_size"] = count
    model["max_model_len"] = plan.context
    model["max_num_seqs"] = max(1, min(plan.streams, plan.cache.decoding(plan.kv_bytes, max(1, plan.context // 2))))
    if replicas > 1:
        model["replicas"] = {"min": replicas}
    if engine_args:
        model["engine_args"] = engine_args
    host = math.ceil(plan.model.weight_bytes / GIB) + _HOST_GIB_BESIDE_WEIGHTS
    workers: dict[str, Any] = {
        "resources": {
            "requests": {"cpu": str(max(4, 2 * plan.gpus)), "memory": f"{host}Gi"},
            "limits": {"memory": f"{2 * host}Gi"},
        }
    }
    if plan.gpus > 1:
        workers["sharedMemory"] = "16Gi"
    if plan.gpu.product:
        workers["nodeSelector"] = {"nvidia.com/gpu.product": plan.gpu.product}
    cache: dict[str, Any] = {"size": f"{math.ceil(1.5 * plan.model.weight_bytes / GIB) + 10}Gi"}
    if replicas > 1:
        cache["accessModes"] = ["ReadWriteMany"]
    settings: dict[str, Any] = {"models": {plan.model.name: model}}
    if replicas > _INGRESS_REPLICAS:
        settings = {"ingress_replicas": replicas, **settings}
    return {"settings": settings, "engineWorkers": workers, "modelCache": cache}


def team_values(team: str, stored_key: Mapping[str, str]) -> dict[str, Any]:
    """Values that let one team in, and Prometheus with the administrator's key of the Secret ADMIN_SECRET."""
    return {
        "teams": {"file": {"teams": {team: {"keys": [dict(stored_key)]}}}},
        "admin": {"existingSecret": ADMIN_SECRET},
        "monitoring": {"keySecret": ADMIN_SECRET},
    }


def values_yaml(values: Mapping[str, Any]) -> str:
    """Values as text to paste: a mapping on one line where it fits there, else with a line for each key."""
    return "".join(f"{line}\n" for key, value in values.items() for line in _lines(key, value, ""))


def _lines(key: str, value: Any, indent: str) -> Iterator[str]:
    short = yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1]
    line = indent + short
    # The settings are a file of their own, which people go on writing.
    is_short = (len(line) <= _VALUES_WIDTH or _is_chain(value)) and key not in ("settings", "models")
    if not isinstance(value, dict) or is_short:
        yield line
        return
    yield f"{indent}{key}:"
    for inner, each in value.items():
        yield from _lines(inner, each, f"{indent}  ")


def _is_chain(value: Any) -> bool:
    """Mappings of one key each, which a line for each would make no clearer."""
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return not isinstance(value, dict)
