"""Settings of a served model: checkpoint, devices, engine and replicas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from serving.settings.adapters import AdapterSettings, LoraSettings
from serving.settings.base import Section
from serving.settings.layer import KeyPath
from serving.settings.lifecycle import HoldSettings, IdleSettings
from serving.settings.problems import several
from serving.settings.reasoning import ReasoningSettings


class ReplicaSettings(Section):
    """Number of replicas that Ray Serve runs."""

    min: int = Field(
        1, ge=0, description="Replicas while the model is loaded; with 0 it is loaded when it is asked for."
    )
    max: int | None = Field(None, ge=1, description="Replicas at most; unset: the same as min, no autoscaling.")
    target_first_token_s: float = Field(
        2.5, gt=0, description="Wait for a first token, in seconds, from which autoscaling starts another replica."
    )
    target_ongoing_requests: int | None = Field(
        None,
        ge=1,
        description="Requests in a replica that autoscaling aims at too; unset: KV cache, batch and waits alone.",
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.max is None and self.min == 0:
            raise several([(("max",), "set it to 1 or more: with min 0 and no max nothing would ever run")])
        if self.max is not None and self.max < self.min:
            raise several([(("max",), f"should be at least min, {self.min}; got {self.max}")])
        return self


class SpeculativeSettings(Section):
    """Speculative decoding: a small draft model guesses tokens, and the model checks them in one step."""

    draft: str = Field(
        min_length=1, description="The EAGLE-3 draft made for the model, such as nvidia/gpt-oss-120b-Eagle3-v2."
    )
    tokens: int = Field(3, ge=1, le=16, description="Tokens guessed at a time.")


OWNED_ENGINE_ARGS: Mapping[str, str] = {
    "model": "set `source`",
    "served_model_name": "the model's key under `models` is its name; more go into `aliases`",
    "tensor_parallel_size": "set `tensor_parallel_size`",
    "pipeline_parallel_size": "set `pipeline_parallel_size`",
    "data_parallel_size": "set `replicas`",
    "dtype": "set `dtype`",
    "max_model_len": "set `max_model_len`",
    "max_num_seqs": "set `max_num_seqs`",
    "distributed_executor_backend": "set `executor`",
    "structured_outputs_config": "answers are held to grammars that only this server's backend, xgrammar, reads",
    "generation_config": "sampling comes with each request, never from a checkpoint",
    "disable_log_stats": "metrics are always on",
    "enable_log_requests": "prompts and answers are never logged",
    "skip_tokenizer_init": "structured outputs need vLLM's tokenizer",
    "enable_lora": "set `adapters` or `lora`",
    "max_loras": "set `lora.max_loras`",
    "max_lora_rank": "set `lora.max_lora_rank`",
    "max_cpu_loras": "set `lora.max_cpu_loras`",
    "lora_target_modules": "set `lora.target_modules`",
    "performance_mode": "set `profile`",
    "speculative_config": "set `speculative`",
    "kv_offloading_size": "set `kv_offload_gib`",
    "trust_remote_code": "code from a checkpoint is never run; gpt-oss needs none",
}
"""Arguments of vLLM that `engine_args` rejects, and what to set instead."""


COMMON_NODE_GPUS = 8
"""Devices of a replica up to which `executor: auto` means mp: the most GPUs that common nodes have."""


_KNOWN_SHAPES: Mapping[str, tuple[int, int]] = {
    "demo": (4, 4),
    "openai/gpt-oss-20b": (64, 24),
    "openai/gpt-oss-120b": (64, 36),
}
"""Attention heads and layers: the heads must split evenly over tensor parallelism, a pipeline group needs a layer."""


class ModelSettings(Section):
    """Served model."""

    source: str = Field(
        "demo", min_length=1, description="`demo`, a directory with a checkpoint, or a hub id like openai/gpt-oss-20b."
    )
    aliases: tuple[str, ...] = Field((), description="Other names clients may use.")
    tensor_parallel_size: int = Field(1, ge=1, description="Devices that share each layer.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Groups of devices that share the layers between them.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="Data type of the weights.")
    max_model_len: int | None = Field(None, ge=256, description="Context in tokens; unset: what the checkpoint says.")
    max_num_seqs: int | None = Field(
        None, ge=1, description="Sequences decoded together in one replica; unset: what vLLM takes for the device."
    )
    profile: Literal["latency", "balanced", "throughput"] = Field(
        "balanced",
        description="What a GPU's engine is tuned for: single answers, both, or tokens a second over all of them.",
    )
    speculative: SpeculativeSettings | None = Field(None, description="Speculative decoding; unset: none.")
    kv_offload_gib: float | None = Field(
        None, gt=0, description="Machine memory for KV blocks that leave a GPU, in GiB a replica; unset: none."
    )
    executor: Literal["auto", "mp", "ray"] = Field(
        "auto",
        description=f"mp: all devices on one node; ray: across nodes; auto: mp up to {COMMON_NODE_GPUS} devices.",
    )
    replicas: ReplicaSettings = Field(ReplicaSettings(), description="How many copies of the model run.")
    reasoning: ReasoningSettings = Field(ReasoningSettings(), description="How much it thinks.")
    fallback: tuple[str, ...] = Field(
        (), description="Who answers instead, in turn, while it cannot: PROVIDER:MODEL or a model's name."
    )
    adapters: dict[str, AdapterSettings] = Field(
        default_factory=dict, description="LoRA adapters over it, each under a name that clients use like a model's."
    )
    lora: LoraSettings | None = Field(
        None, description="Room for adapters; unset: none, or as by default where `adapters` has some."
    )
    idle: IdleSettings | None = Field(
        None, description="When it leaves memory for want of use; unset: never, or as by default with replicas.min 0."
    )
    hold: HoldSettings = Field(HoldSettings(), description="Requests that come while it is loaded again.")
    warm_up: tuple[str, ...] = Field(
        (), description="What each replica is asked, as a user would, before it says that it is ready."
    )
    truncation_answer_share: float = Field(
        0.25, gt=0, lt=1, description="Part of the context that `truncation: auto` keeps free where no max_tokens is."
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, by their Python names."
    )

    @property
    def lora_settings(self) -> LoraSettings | None:
        """Capacity for adapters; None where the engine starts without any."""
        return self.lora or (LoraSettings() if self.adapters else None)

    @property
    def idle_settings(self) -> IdleSettings | None:
        """Settings of sleep and unloading; None where the model stays. `replicas.min: 0` means the defaults."""
        return self.idle or (IdleSettings() if self.replicas.min == 0 else None)

    @property
    def sleeps(self) -> bool:
        """Whether engines start with sleep mode, which costs a little memory."""
        asked = self.engine_args.get("enable_sleep_mode") is True
        return asked or (self.idle is not None and self.idle.action == "sleep")

    @property
    def devices(self) -> int:
        """Devices of one replica: tensor parallelism times pipeline parallelism."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def resolved_executor(self) -> Literal["mp", "ray"]:
        """Executor, with `auto` resolved."""
        if self.executor == "auto":
            return "mp" if self.devices <= COMMON_NODE_GPUS else "ray"
        return self.executor

    @property
    def gpus(self) -> tuple[int, int]:
        """GPUs of the fewest and of the most replicas; on a CPU machine, CPU devices in their place."""
        fewest = self.replicas.min
        return self.devices * fewest, self.devices * (self.replicas.max or fewest)

    @field_validator("source")
    @classmethod
    def _printable_source(cls, source: str) -> str:
        if not source.isprintable() or source != source.strip():
            raise ValueError(f"has blanks around it or characters that cannot be printed: {source!r}")
        return source

    @field_validator("engine_args")
    @classmethod
    def _plain_data(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(arguments, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"should be plain data, as JSON has it: {error}") from error
        owned = [(name, OWNED_ENGINE_ARGS[name]) for name in arguments if name in OWNED_ENGINE_ARGS]
        if owned:
            raise several([((name,), f"is not for engine_args: {instead}") for name, instead in owned])
        return arguments

    @model_validator(mode="after")
    def _parallelism(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        if self.executor == "ray" and self.devices == 1:
            findings.append(
                (("executor",), "ray spreads a model over devices and this one has a single device; use auto")
            )
        heads, layers = _KNOWN_SHAPES.get(self.source, (0, self.pipeline_parallel_size))
        if heads % self.tensor_parallel_size:
            sizes = ", ".join(str(size) for size in range(1, heads + 1) if heads % size == 0)
            findings.append(
                (("tensor_parallel_size",), f"{self.source} has {heads} attention heads to share evenly: use {sizes}")
            )
        if self.kv_offload_gib is not None and "kv_transfer_config" in self.engine_args:
            findings.append(
                (("kv_offload_gib",), "is a KV connector, and engine_args.kv_transfer_config another; remove one")
            )
        if self.speculative is not None and self.lora_settings is not None:
            findings.append((("speculative",), "drafts for the bare model alone; remove it, or `adapters` and `lora`"))
        if self.pipeline_parallel_size > layers:
            findings.append(
                (("pipeline_parallel_size",), f"{self.source} has {layers} layers to share; use fewer groups")
            )
        if findings:
            raise several(findings)
        return self
