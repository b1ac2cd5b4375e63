"""The whole configuration as one tree: flags over `SERVING_` variables over a YAML file over defaults."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.harmony.conversation import Effort


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplicaSettings(Section):
    """How many copies of something Ray Serve runs."""

    min: int = Field(1, ge=0, description="Replicas kept at all times.")
    max: int | None = Field(None, ge=1, description="Replicas at most; unset: the same as min, no autoscaling.")
    target_ongoing_requests: int = Field(
        32, ge=1, description="Requests under way in a replica that autoscaling aims at."
    )


class ReasoningSettings(Section):
    """How a model's reasoning effort is chosen."""

    default_effort: Effort = Field("medium", description="Effort of a request that names none.")
    unsupported_effort: Literal["clamp", "refuse"] = Field(
        "clamp", description="What becomes of none, minimal, xhigh and max: the nearest effort, or a 400."
    )


class ModelSettings(Section):
    """One served model."""

    source: str = Field(
        "demo", description="`demo`, a directory with a checkpoint, or a hub id like openai/gpt-oss-20b."
    )
    aliases: tuple[str, ...] = Field((), description="Other names clients may use.")
    tensor_parallel_size: int = Field(1, ge=1, description="Devices that share each layer.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Groups of devices that share the layers between them.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="Data type of the weights.")
    max_model_len: int | None = Field(None, ge=256, description="Context in tokens; unset: what the checkpoint says.")
    max_num_seqs: int = Field(64, ge=1, description="Sequences decoded together in one replica.")
    executor: Literal["auto", "mp", "ray"] = Field(
        "auto",
        description="mp: all devices on one node; ray: across nodes; auto: mp unless the devices exceed a node's.",
    )
    replicas: ReplicaSettings = ReplicaSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, by their Python names."
    )


class HttpSettings(Section):
    """Limits of the public port."""

    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest request body read, in bytes.")
    keep_alive_s: float = Field(15.0, gt=0, description="Silence after which a stream gets a comment line, in seconds.")
    longest_answer_s: int = Field(900, ge=1, description="Longest time one answer may take, in seconds.")


class Settings(BaseSettings):
    """The tree's root."""

    model_config = SettingsConfigDict(
        env_prefix="SERVING_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    host: str = Field("127.0.0.1", description="Address the API listens on; loopback unless set.")
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    engine: Literal["vllm", "scripted"] = Field("vllm", description="scripted plays a file of answers, for tests.")
    script: str | None = Field(None, description="The scripted engine's file: JSON lines.")
    models: dict[str, ModelSettings] = Field(
        default_factory=lambda: {"demo": ModelSettings()},
        min_length=1,
        description="Served models by the name clients use.",
    )
    ingress_replicas: int = Field(1, ge=1, description="Copies of the process that speaks HTTP.")
    http: HttpSettings = HttpSettings()
    ray_address: str | None = Field(
        None, description="A running Ray cluster to join; unset: start one on this machine."
    )
    cache_dir: str | None = Field(
        None, description="Where the demo checkpoint is made; unset: the user's cache directory."
    )
