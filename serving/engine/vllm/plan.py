"""Arguments and environment of vLLM's start: each argument and variable with where its value comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from serving.engine.accelerator import Accelerator
from serving.engine.device import thread_binding
from serving.engine.vllm.worker import WORKER_EXTENSION
from serving.settings.models import ModelSettings

CPU_SEQUENCES = 64
"""Sequences of a CPU engine whose settings name no number."""

# The demo's whole context for that many sequences at once; vLLM would otherwise take what memory there is.
_DEMO_KV_CACHE_BYTES = 256 * 1024 * 1024
_CPU_KV_CACHE_BYTES = 4 * 1024 * 1024 * 1024

# vLLM has adapted experts on GPUs alone (vllm/lora/layers/fused_moe.py asks for kernels that support LoRA).
_CPU_LORA_MODULES = ("qkv_proj", "o_proj")

LATENCY_SEQUENCES = 64
"""Sequences of a GPU's engine with `profile: latency` whose settings name no number."""

_RECIPE = "vLLM's recipe for gpt-oss"
_SETTINGS = "settings"
_OURS = "needed by this server"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and where it comes from, for a person."""

    value: Any
    source: str


def engine_arguments(name: str, source: str, model: ModelSettings, accelerator: Accelerator) -> dict[str, Chosen]:
    """Keyword arguments of vLLM's AsyncEngineArgs; `model.engine_args` come last and win where they are allowed."""
    chosen: dict[str, Chosen] = {
        "model": Chosen(source, f"{_SETTINGS}: source"),
        "served_model_name": Chosen(name, f"{_SETTINGS}: the model's name"),
        "tensor_parallel_size": Chosen(model.tensor_parallel_size, _from(model, "tensor_parallel_size")),
        "pipeline_parallel_size": Chosen(model.pipeline_parallel_size, _from(model, "pipeline_parallel_size")),
        "dtype": _dtype(model, accelerator),
        # Stop, temperature and the rest come with every request; a checkpoint must not change them silently.
        "generation_config": Chosen("vllm", f"{_OURS}: sampling comes with each request"),
        "disable_log_stats": Chosen(False, f"{_OURS}: metrics"),
        "worker_extension_cls": Chosen(WORKER_EXTENSION, f"{_OURS}: workers tell what memory they use"),
        # Continuations go before new requests (EngineRequest.priority).
        "scheduling_policy": Chosen("priority", f"{_OURS}: an answer that goes on elsewhere comes before new ones"),
        # One backend serves all requests of an engine (vllm/v1/structured_output/__init__.py, grammar_init). Free
        # whitespace lets a small model write blanks until its tokens run out.
        "structured_outputs_config": Chosen(
            {"backend": "xgrammar", "disable_any_whitespace": True}, f"{_OURS}: no blanks without end"
        ),
    }
    chosen |= _adapters(model, accelerator)
    if model.sleeps and accelerator.device != "cpu":
        chosen["enable_sleep_mode"] = Chosen(True, f"{_SETTINGS}: idle.action")
    if model.max_model_len is not None:
        chosen["max_model_len"] = Chosen(model.max_model_len, f"{_SETTINGS}: max_model_len")
    if model.max_num_seqs is not None:
        chosen["max_num_seqs"] = Chosen(model.max_num_seqs, f"{_SETTINGS}: max_num_seqs")
    if model.devices > 1:
        chosen["distributed_executor_backend"] = Chosen(model.resolved_executor, _from(model, "executor"))
    chosen |= _on_cpu(model, accelerator) if accelerator.device == "cpu" else _on_gpu(model, accelerator)
    return chosen | {each: Chosen(value, f"{_SETTINGS}: engine_args") for each, value in model.engine_args.items()}


def _from(model: ModelSettings, field: str) -> str:
    return f"{_SETTINGS}: {field}" if field in model.model_fields_set else "default"


def _dtype(model: ModelSettings, accelerator: Accelerator) -> Chosen:
    if model.dtype == "auto" and accelerator.device == "cpu" and not accelerator.bfloat16:
        return Chosen("float32", "this CPU: neither AVX-512 nor AMX multiplies bfloat16 here")
    return Chosen(model.dtype, _from(model, "dtype"))


def _adapters(model: ModelSettings, accelerator: Accelerator) -> dict[str, Chosen]:
    if (lora := model.lora_settings) is None:
        return {}
    source = f"{_SETTINGS}: {'lora' if model.lora else 'adapters'}"
    chosen = {
        "enable_lora": Chosen(True, source),
        "max_loras": Chosen(lora.max_loras, source),
        "max_lora_rank": Chosen(lora.max_lora_rank, source),
        "max_cpu_loras": Chosen(lora.max_cpu_loras, source),
    }
    if (modules := adapted_modules(model, accelerator)) is not None:
        named = lora.target_modules is not None
        reason = source if named else "this CPU: vLLM adapts experts on GPUs alone"
        chosen["lora_target_modules"] = Chosen(list(modules), reason)
    return chosen


def adapted_modules(model: ModelSettings, accelerator: Accelerator) -> Sequence[str] | None:
    """The modules that LoRA may change; None: all that vLLM adapts."""
    modules = model.lora_settings.target_modules if model.lora_settings else None
    return _CPU_LORA_MODULES if modules is None and accelerator.device == "cpu" else modules


def _on_cpu(model: ModelSettings, accelerator: Accelerator) -> dict[str, Chosen]:
    demo = model.source == "demo"
    wide = _dtype(model, accelerator).value == "float32"
    chosen = {
        # Compiling for the CPU takes minutes and wants a compiler; the demo needs neither.
        "enforce_eager": Chosen(True, "a CPU: compiling takes minutes and wants a compiler"),
        # vLLM 0.32 rewinds a seeded request's generator when its prefill is split, which a CPU generator refuses, and
        # the engine dies of it (v1/worker/gpu_model_runner.py, _bookkeeping_sync). So no prefill is split there.
        "enable_chunked_prefill": Chosen(False, "a CPU: vLLM 0.32 dies of a seeded request whose prefill is split"),
        "kv_cache_memory_bytes": Chosen(
            (_DEMO_KV_CACHE_BYTES if demo else _CPU_KV_CACHE_BYTES) * (2 if demo and wide else 1),
            f"a CPU: {f'the whole context of the demo {CPU_SEQUENCES} times' if demo else '4 GiB'}",
        ),
    }
    if model.max_num_seqs is None:
        chosen["max_num_seqs"] = Chosen(CPU_SEQUENCES, "a CPU: more only share the same cores")
    if model.devices == 1:
        # In the engine's own process. vLLM turns "uni" into "mp" here, for the number of threads, which we set. A
        # worker beside the engine costs another process and spins while it waits (vllm/distributed/
        # device_communicators/shm_broadcast.py): on two cores that holds up everything else for seconds at a time.
        chosen["distributed_executor_backend"] = Chosen(
            "vllm.v1.executor.uniproc_executor.UniProcExecutor", "a CPU: one process less, which spins"
        )
    return chosen


def _on_gpu(model: ModelSettings, accelerator: Accelerator) -> dict[str, Chosen]:
    """Kernels for this GPU. None of them is compiled by nvcc unless FlashInfer's are what vLLM would choose.

    On sm100 vLLM takes FlashInfer's kernels for experts and attention (vllm/model_executor/layers/fused_moe/oracle/
    mxfp4.py, vllm/platforms/cuda.py); elsewhere Triton's or Marlin's, which the autotuner has nothing to do with.
    """
    chosen: dict[str, Chosen] = {}
    blackwell = accelerator.capability is not None and accelerator.capability[0] == 10
    chosen |= _profile(model, blackwell and has_flashinfer_kernels(accelerator))
    if (speculative := model.speculative) is not None:
        drafting = {
            "method": "eagle3",
            "model": speculative.draft,
            "num_speculative_tokens": speculative.tokens,
            "draft_tensor_parallel_size": 1,
        }
        chosen["speculative_config"] = Chosen(drafting, f"{_SETTINGS}: speculative, as in {_RECIPE}")
    if model.kv_offload_gib is not None:
        chosen["kv_offloading_size"] = Chosen(model.kv_offload_gib, f"{_SETTINGS}: kv_offload_gib")
    if "enable_flashinfer_autotune" not in model.engine_args.get("kernel_config", {}):
        chosen["enable_flashinfer_autotune"] = Chosen(
            blackwell and has_flashinfer_kernels(accelerator),
            "FlashInfer's kernels for experts are in use on this GPU"
            if blackwell
            else f"no kernel of FlashInfer's is in use on {accelerator.architecture or 'this GPU'}",
        )
    if blackwell and not has_flashinfer_kernels(accelerator):
        reason = "no compiled kernel of FlashInfer's and no compiler (nvcc, c++) is installed"
        chosen["enable_flashinfer_autotune"] = Chosen(False, reason)
        chosen["moe_backend"] = Chosen("triton", reason)
        chosen["attention_backend"] = Chosen("TRITON_ATTN", reason)
    return chosen


def _profile(model: ModelSettings, trtllm_attention: bool) -> dict[str, Chosen]:
    """The profile's arguments. Asynchronous scheduling and the backend for MXFP4 are vLLM's own choice in all of them.

    Sources: vLLM's recipe for gpt-oss on Hopper and Blackwell, which NVIDIA wrote, and vLLM's performance modes.
    """
    source = f"profile {model.profile}"
    if model.profile == "latency":
        # vllm/config/vllm.py, _set_cudagraph_sizes: a graph for each batch size up to 32.
        chosen = {"performance_mode": Chosen("interactivity", f"{source}: graphs for every small batch")}
        if model.max_num_seqs is None:
            chosen["max_num_seqs"] = Chosen(
                LATENCY_SEQUENCES, f"{source}: {_RECIPE} has few where answers are to be fast"
            )
        return chosen
    chosen = {"max_num_batched_tokens": Chosen(8192, f"{source}: {_RECIPE}")}
    if model.profile == "throughput":
        # vLLM takes twice as many sequences by itself (vllm/engine/arg_utils.py, _set_default_max_num_seqs_and_...).
        chosen["performance_mode"] = Chosen("throughput", f"{source}: more sequences, larger graphs")
        chosen["max_cudagraph_capture_size"] = Chosen(2048, f"{source}: {_RECIPE}")
        if trtllm_attention:
            reason = f"{source}: {_RECIPE} for Blackwell"
            chosen["kv_cache_dtype"] = Chosen("fp8", reason)
            # Their 128 tokens take little memory, and an error in them is in every token.
            chosen["kv_cache_dtype_skip_layers"] = Chosen(["sliding_window"], f"{source}: sliding layers stay bfloat16")
    return chosen


def has_flashinfer_kernels(accelerator: Accelerator) -> bool:
    """True if FlashInfer's kernels are installed, or can be compiled when they are first needed."""
    return accelerator.prebuilt or accelerator.compiler


def engine_environment(model: ModelSettings, accelerator: Accelerator, cache: Path) -> dict[str, Chosen]:
    """Variables for what vLLM takes from the environment alone; those that are set already are to stay.

    `cache` is the folder for what is compiled: see kernel_cache().
    """
    chosen = {
        "VLLM_NO_USAGE_STATS": Chosen("1", _OURS),
        "VLLM_CONFIGURE_LOGGING": Chosen("1", _OURS),
        "VLLM_LOGGING_LEVEL": Chosen("WARNING", _OURS),
    }
    if model.source == "demo":
        chosen["HF_HUB_OFFLINE"] = Chosen("1", "the demo comes with this server")
    # With an empty XDG_CACHE_HOME vLLM's own default is ./vllm, which Python takes for a package.
    chosen["VLLM_CACHE_ROOT"] = Chosen(str(cache / "vllm"), "cache_dir, so that the next start compiles nothing")
    if accelerator.device == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        chosen["VLLM_CPU_OMP_THREADS_BIND"] = Chosen(thread_binding(model.devices, cores), "this machine's cores")
        return chosen
    if not accelerator.prebuilt:
        # vLLM's own kernels for top-k and top-p are Triton's. FlashInfer's are compiled by nvcc while the engine
        # starts, which takes two minutes where it works, and ends the engine where it does not.
        chosen["VLLM_USE_FLASHINFER_SAMPLER"] = Chosen("0", "no compiled sampler of FlashInfer's is installed")
    for variable, folder in _CACHES.items():
        chosen[variable] = Chosen(str(cache / folder), "cache_dir, so that the next start compiles nothing")
    return chosen


# Triton and FlashInfer key their folders by source and architecture, vLLM its own by model, arguments and versions.
_CACHES: Mapping[str, str] = {
    "TRITON_CACHE_DIR": "triton",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
}


def kernel_cache(root: Path, accelerator: Accelerator) -> Path:
    """The folder under `root` (cache_dir) for what is compiled with these versions for this GPU."""
    versions = []
    for name in ("vllm", "torch"):
        try:
            versions.append(f"{name}-{metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return root / "kernels" / "-".join([*versions, accelerator.architecture or accelerator.device])
