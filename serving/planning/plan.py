"""Plan of a model on some GPUs: its fit, the parts of memory, and the bounds of its throughput."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serving.planning.gpus import GIB, Gpu
from serving.planning.kv_cache import KvCache
from serving.planning.models import ModelShape

MEMORY_UTILIZATION = 0.92
"""Part of a GPU's memory that vLLM 0.32 takes unless told otherwise (gpu_memory_utilization)."""

LARGE_GPU_GIB = 70
"""From here on vLLM's API server takes 8,192 tokens into one step, else 2,048 (EngineArgs.get_batch_defaults)."""

_RUNTIME_GIB = 1.5
"""CUDA's context, NCCL, CUDA graphs: an assumption on the safe side."""

_HIDDEN_COPIES = 6
_LOGIT_COPIES = 4
"""How often a step's hidden states and float32 logits are there at a time: assumptions on the safe side."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one engine; `context` is the length that sequences may have, `streams` how many at once.

    `reserve_gib` replaces what is assumed for the runtime and activations on each GPU.
    """

    model: ModelShape
    gpu: Gpu
    tensor_parallel: int
    pipeline_parallel: int
    context: int
    streams: int
    utilization: float = MEMORY_UTILIZATION
    kv_element_bytes: int = 2
    batched_tokens: int | None = None
    reserve_gib: float | None = None

    @property
    def gpus(self) -> int:
        """GPUs of the engine."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def step_tokens(self) -> int:
        """Tokens of a scheduler step: max_num_batched_tokens."""
        # vLLM leaves the A100 out, which larger steps made slower.
        large = self.gpu.memory_gib >= LARGE_GPU_GIB and "A100" not in self.gpu.name
        return self.batched_tokens or (8192 if large else 2048)

    @property
    def cache(self) -> KvCache:
        """Arithmetic of the KV cache."""
        return KvCache(
            self.model,
            self.tensor_parallel,
            # Asynchronous scheduling prepares one step while another runs.
            in_flight_tokens=2 * self.step_tokens,
            pipeline_parallel=self.pipeline_parallel,
            element_bytes=self.kv_element_bytes,
        )

    @property
    def weights_gib(self) -> float:
        """Weights on one GPU, with what its kernels pad."""
        model, gpu = self.model, self.gpu
        experts = model.layers * model.experts * model.expert_bytes / self.gpus
        if model.expert_bits < 8:
            part = model.intermediate_size / self.tensor_parallel
            wider = _round_up(part, gpu.intermediate_multiple) / part
            experts *= wider * _round_up(model.hidden_size, gpu.hidden_multiple) / model.hidden_size
        others = model.weight_bytes - model.layers * model.experts * model.expert_bytes
        return (experts + others / self.gpus) / GIB

    @property
    def reserve(self) -> float:
        """GiB on one GPU for all but weights and KV cache, as far as it can be known before: an assumption."""
        if self.reserve_gib is not None:
            return self.reserve_gib
        model = self.model
        # Every token of a step visits its experts at once: gate and up, and down.
        expert_width = 3 * model.experts_per_token * model.intermediate_size / self.tensor_parallel
        activations = self.step_tokens * (_HIDDEN_COPIES * model.hidden_size + expert_width) * 2
        logits = _LOGIT_COPIES * self.streams * model.vocabulary * 4
        return _RUNTIME_GIB + (activations + logits) / GIB

    @property
    def kv_gib(self) -> float:
        """GiB on one GPU for the KV cache; negative where not even the weights fit."""
        return self.gpu.memory_gib * self.utilization - self.weights_gib - self.reserve

    @property
    def kv_bytes(self) -> float:
        """KV cache on one GPU in bytes, and not below zero."""
        return max(0.0, self.kv_gib * GIB)

    @property
    def fits(self) -> bool:
        """Whether one sequence of the whole context can be served, which is what vLLM asks for."""
        return self.cache.sequences(self.kv_bytes, self.context) >= 1

    @property
    def fitting_streams(self) -> int:
        """Streams of the whole context that fit while they are answered."""
        return self.cache.decoding(self.kv_bytes, self.context)

    def decode_bound(self, streams: int, tokens: int) -> tuple[float, str]:
        """Tokens a second of `streams` sequences of `tokens` that no engine can pass, and what limits it.

        A step reads the shared weights, the experts that any stream uses (drawn independently, which routing is not
        quite) and the streams' KV cache, and multiplies each stream's active weights.
        """
        model = self.model
        used = model.experts * (1 - (1 - model.experts_per_token / model.experts) ** streams)
        weights = model.shared_bytes + model.layers * used * model.expert_bytes
        read = weights / self.gpus + streams * self.cache.read_bytes(tokens)
        by_bandwidth = read / (self.gpu.bandwidth_tbs * 1e12)
        attention = (
            4
            * model.heads
            * model.head_dim
            * (model.full_layers * tokens + model.sliding_layers * min(tokens, model.sliding_window))
        )
        by_compute = streams * (2 * model.active_parameters + attention) / (self.gpus * self.gpu.tflops * 1e12)
        limit = "memory bandwidth" if by_bandwidth >= by_compute else "compute"
        # The stages of a pipeline work on different steps: together they are as fast as one GPU's part of the work.
        return streams / max(by_bandwidth, by_compute), limit

    def prefill_bound(self) -> float:
        """Prompt tokens a second that no engine can pass: the active weights times the tokens, attention left out."""
        # The output matrix is needed for the last token of a prompt alone.
        operations = 2 * (self.model.active_parameters - self.model.embedding_parameters)
        return self.gpus * self.gpu.tflops * 1e12 / operations

    def problems(self) -> list[str]:
        """Reasons why the plan cannot work, each with what to change; empty where it can."""
        model, found = self.model, []
        if model.heads % self.tensor_parallel:
            sizes = ", ".join(str(size) for size in range(1, 9) if model.heads % size == 0)
            found.append(f"{model.heads} attention heads cannot be shared by {self.tensor_parallel} GPUs: use {sizes}")
        if self.pipeline_parallel > model.layers:
            found.append(f"{model.layers} layers cannot be shared by {self.pipeline_parallel} groups; use fewer")
        if self.context > model.context:
            found.append(f"{model.name} was made for {model.context:,} tokens at most; lower --context")
        if found:
            return found
        if self.kv_gib <= 0:
            found.append(
                f"its weights ({self.weights_gib:.1f} GiB a GPU) and what else is needed ({self.reserve:.1f} GiB) do "
                f"not fit into {self.gpu.memory_gib * self.utilization:.1f} GiB of {self.gpu.name}: {self._more_gpus()}"
            )
        elif not self.fits:
            longest = self.cache.longest(self.kv_bytes)
            needed = self.cache.blocks_at_most(self.context) * self.cache.block_bytes / GIB
            shorter = f"lower --context to {longest:,}" if longest else "lower max_num_batched_tokens"
            found.append(
                f"a sequence of {self.context:,} tokens takes {needed:.2f} GiB of KV cache a GPU, and "
                f"{self.kv_gib:.2f} are left: {shorter}, or {self._more_gpus()}"
            )
        return found

    def _more_gpus(self) -> str:
        sizes = (size for size in (1, 2, 4, 8) if size > self.tensor_parallel and self.model.heads % size == 0)
        for size in sizes:
            larger = replace(self, tensor_parallel=size)
            if larger.kv_gib > 0 and larger.fits:
                return f"set --tensor-parallel-size {size}"
        return "take GPUs with more memory"


def _round_up(number: float, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
