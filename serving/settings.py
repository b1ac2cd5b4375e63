"""The whole configuration as one tree: flags over `SERVING_` variables over a YAML file over defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from serving.adapters.settings import AdapterSettings, LoraSettings
from serving.backends.settings import BackendsSettings
from serving.configuration.layer import KeyPath, Layer, Problem, dotted
from serving.configuration.problems import from_validation, several
from serving.configuration.sources import read_sources
from serving.errors import SettingsError
from serving.harmony.conversation import EFFORTS, Effort
from serving.life.settings import HoldSettings, IdleSettings
from serving.tenancy.keys import KeyHash
from serving.variants.settings import VariantSettings


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ReplicaSettings(Section):
    """How many copies of something Ray Serve runs."""

    min: int = Field(
        1, ge=0, description="Replicas while the model is loaded; with 0 it is loaded when it is asked for."
    )
    max: int | None = Field(None, ge=1, description="Replicas at most; unset: the same as min, no autoscaling.")
    target_ongoing_requests: int = Field(
        32, ge=1, description="Requests under way in a replica that autoscaling aims at."
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.max is None and self.min == 0:
            raise several([(("max",), "set it to 1 or more: with min 0 and no max nothing would ever run")])
        if self.max is not None and self.max < self.min:
            raise several([(("max",), f"should be at least min, {self.min}; got {self.max}")])
        return self


class ReasoningSettings(Section):
    """How much a model thinks."""

    default_effort: Effort = Field("medium", description="Effort of a request that names none.")
    highest_effort: Effort = Field("high", description="Most effort a request gets.")
    unsupported_effort: Literal["clamp", "refuse"] = Field(
        "clamp", description="What becomes of efforts above the highest and of unknown ones: the nearest, or a 400."
    )
    default_max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Analysis of a request that sets no budget, in tokens; unset: no budget."
    )
    highest_max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Most analysis a request gets, in tokens, whatever it asks for; unset: no limit."
    )
    default_min_answer_tokens: int = Field(
        0, ge=0, description="Tokens of max_tokens kept for the answer of a request that names no such reserve."
    )

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        above = EFFORTS.index(self.default_effort) > EFFORTS.index(self.highest_effort)
        if above and "default_effort" in self.model_fields_set:
            findings.append((("default_effort",), f"should be at most highest_effort, {self.highest_effort}"))
        default, highest = self.default_max_reasoning_tokens, self.highest_max_reasoning_tokens
        if default is not None and highest is not None and default > highest:
            findings.append(
                (("default_max_reasoning_tokens",), f"should be at most highest_max_reasoning_tokens, {highest}")
            )
        if findings:
            raise several(findings)
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
"""Arguments of vLLM that are not for `engine_args`, and what to do instead."""

COMMON_NODE_GPUS = 8
"""Devices of a replica up to which `executor: auto` means mp: the most GPUs that common nodes have."""

_KNOWN_SHAPES: Mapping[str, tuple[int, int]] = {
    "demo": (4, 4),
    "openai/gpt-oss-20b": (64, 24),
    "openai/gpt-oss-120b": (64, 36),
}
"""Attention heads and layers: the heads must split evenly over tensor parallelism, a pipeline group needs a layer."""


class ModelSettings(Section):
    """One served model."""

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
        """The room for adapters that there is; None: the engine is started without."""
        return self.lora or (LoraSettings() if self.adapters else None)

    @property
    def idle_settings(self) -> IdleSettings | None:
        """When it leaves memory; None: it stays. What has no replica to begin with has none in the end either."""
        return self.idle or (IdleSettings() if self.replicas.min == 0 else None)

    @property
    def sleeps(self) -> bool:
        """Whether its engines are started so that they can sleep, which costs a little memory."""
        asked = self.engine_args.get("enable_sleep_mode") is True
        return asked or (self.idle is not None and self.idle.action == "sleep")

    @property
    def devices(self) -> int:
        """Devices of one replica: tensor parallelism times pipeline parallelism."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def resolved_executor(self) -> Literal["mp", "ray"]:
        """What `executor: auto` comes to."""
        if self.executor == "auto":
            return "mp" if self.devices <= COMMON_NODE_GPUS else "ray"
        return self.executor

    @property
    def gpus(self) -> tuple[int, int]:
        """GPUs asked for by the fewest and by the most replicas; on a CPU machine, CPU devices in their place."""
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


class HttpSettings(Section):
    """Limits of the public port."""

    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest request body read, in bytes.")
    keep_alive_s: float = Field(15.0, gt=0, description="Silence after which a stream gets a comment line, in seconds.")
    longest_answer_s: int = Field(900, ge=1, description="Longest time one answer may take, in seconds.")
    longest_body_s: float = Field(
        30.0, gt=0, description="Longest time a request's body may take to arrive, in seconds."
    )
    max_header_bytes: int = Field(32 * 1024, ge=1024, description="All headers of a request together, in bytes.")
    max_messages: int = Field(2048, ge=1, description="Most messages of a conversation.")
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Networks whose x-forwarded-for is believed; add the nodes of a cluster and load balancers.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"should be networks such as 10.0.0.0/8: {error}") from error
        return networks


class AdmissionSettings(Section):
    """How requests wait for an engine."""

    margin: float = Field(
        0.1, ge=0, le=1, description="Requests handed to engines beyond max_num_seqs, as a part of it."
    )
    reserve: float = Field(
        0.1, ge=0, le=0.5, description="Part of the places that only teams below their share may take."
    )
    max_queued: int | None = Field(
        None, ge=1, description="Requests that wait for one model, over all ingress replicas; unset: 4 for each place."
    )
    default_timeout_s: float | None = Field(
        None, gt=0, description="Deadline of a request without x-request-timeout; unset: http.longest_answer_s."
    )


class LimitSettings(Section):
    """Where the limits of teams are counted."""

    backend: Literal["memory", "redis"] = Field(
        "memory", description="memory: in the cluster; redis: in the Redis at redis.url, where they outlive it."
    )


class UsageSettings(Section):
    """Where the tokens that teams used are kept."""

    backend: Literal["memory", "sqlite", "redis"] = Field(
        "memory", description="memory: until the stop; sqlite: in a local file; redis: in the Redis at redis.url."
    )
    database: str | None = Field(None, min_length=1, description="The file of `backend: sqlite`.")
    keep_days: int = Field(400, ge=1, description="Days after which figures are forgotten.")

    @model_validator(mode="after")
    def _has_its_file(self) -> Self:
        if (self.backend == "sqlite") != (self.database is not None):
            wanted = "is missing: name the file" if self.database is None else "is for `backend: sqlite` alone"
            raise several([(("database",), wanted)])
        return self


class AuditSettings(Section):
    """A log of who asked what and how it ended, as JSON lines; never of content."""

    file: str | None = Field(
        None, min_length=1, description="Each ingress replica's file begins like this; unset: none."
    )
    max_bytes: int = Field(64 * 1024 * 1024, ge=4096, description="Size at which a file is put aside, in bytes.")
    keep: int = Field(10, ge=1, description="Files put aside that are kept.")


class FailoverSettings(Section):
    """What becomes of answers whose engine is lost."""

    attempts: int = Field(5, ge=1, description="Engines tried for one request at most; 1 ends it with its engine.")
    longest_s: float = Field(180.0, gt=0, description="Longest time a request waits for another engine, in seconds.")
    hold_s: float = Field(
        120.0, ge=0, description="Longest time a new request waits while all engines are being replaced, in seconds."
    )


class FrameSettings(Section):
    """How tokens travel from engines to the processes that speak HTTP."""

    pace_ms: float = Field(
        40.0,
        ge=0,
        le=1000,
        description="Least time between two chunks of a stream, in milliseconds, when 32 or more share an engine "
        "and an ingress replica; in proportion less when fewer do. First tokens go at once.",
    )
    curve_public_key: str | None = Field(None, description="CurveZMQ key in Z85 that encrypts frames; needs both keys.")
    curve_secret_key: SecretStr | None = Field(None, description="Its secret half; give it as a variable.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.curve_public_key is None) != (self.curve_secret_key is None):
            missing = "curve_public_key" if self.curve_public_key is None else "curve_secret_key"
            raise several([((missing,), "is needed too: the two are one pair")])
        for name, key in (("curve_public_key", self.curve_public_key), ("curve_secret_key", self._secret)):
            if key is not None and len(key) != 40:
                raise several([((name,), "should be 40 characters, as zmq.curve_keypair() gives them")])
        return self

    @property
    def _secret(self) -> str | None:
        return None if self.curve_secret_key is None else self.curve_secret_key.get_secret_value()

    @property
    def curve_keys(self) -> tuple[bytes, bytes] | None:
        """The public and the secret key, where frames are encrypted."""
        if self.curve_public_key is None or self._secret is None:
            return None
        return self.curve_public_key.encode(), self._secret.encode()


class RedisSettings(Section):
    """A Redis that replicas share."""

    url: SecretStr | None = Field(
        None,
        description="redis://host:6379/0, or rediss:// for TLS; with a password better as the variable "
        "SERVING_REDIS__URL. Never shown.",
    )

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(r"(rediss?|unix)://.", url.get_secret_value()):
            raise ValueError("should be redis://HOST:PORT/DATABASE, rediss://... or unix://PATH")
        return url


class StoreSettings(Section):
    """Where stored responses are kept, for how long, and how much of them."""

    backend: Literal["memory", "redis"] = Field(
        "memory", description="memory: in the cluster, gone with it; redis: in the Redis at redis.url."
    )
    ttl_s: int = Field(
        24 * 3600, ge=1, description="A response is forgotten after this long without being read or continued, in s."
    )
    max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="All responses together; those not used the longest go first."
    )
    max_item_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="One response with its input; a larger one is answered but not stored."
    )


class CacheSettings(Section):
    """Answers kept for requests of the same team that ask the very same again."""

    backend: Literal["off", "memory", "cluster", "redis"] = Field(
        "off",
        description="off: none are kept; memory: in each ingress replica; cluster: in memory that all of them share; "
        "redis: in the Redis at redis.url.",
    )
    greedy: bool = Field(True, description="Requests at temperature 0 use it, unless they say x-cache: off.")
    seeded: bool = Field(True, description="Requests with a seed use it, unless they say x-cache: off.")
    ttl_s: int = Field(3600, ge=1, description="An answer is given again for this long after it was made, in s.")
    max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="All answers of a store together; those not used the longest go first."
    )
    max_item_bytes: int = Field(1024 * 1024, ge=1024, description="One answer; a larger one is not kept.")


class LoggingSettings(Section):
    """What the service says of itself. Prompts, answers and keys are never in it."""

    format: Literal["auto", "json", "text"] = Field(
        "auto", description="json: an object a line; text: for people; auto: text on a terminal, else json."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is said; requests that were answered are info."
    )


class TracingSettings(Section):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where spans go by OTLP over HTTP, such as http://collector:4318/v1/traces; unset: no traces.",
    )
    sample: float = Field(1.0, ge=0, le=1, description="Part of the requests traced whose caller does not say.")


class Settings(BaseSettings):
    """The tree's root.

    `Settings(...)` takes what it is given and reads nothing else; load_settings reads a file and the environment.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="Address the API listens on; loopback unless set.")
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    engine: Literal["vllm", "scripted"] = Field("vllm", description="scripted plays a file of answers, for tests.")
    script: str | None = Field(None, min_length=1, description="The scripted engine's file: JSON lines.")
    models: dict[str, ModelSettings] = Field(
        default_factory=lambda: {"demo": ModelSettings()},
        min_length=1,
        description="Served models by the name clients use.",
    )
    variants: dict[str, VariantSettings] = Field(
        default_factory=dict, description="Presets over a model, each under a name that clients use like a model's."
    )
    ingress_replicas: int = Field(1, ge=1, description="Copies of the process that speaks HTTP.")
    responses: StoreSettings = Field(StoreSettings(), description="The store of POST /v1/responses.")
    cache: CacheSettings = Field(CacheSettings(), description="Answers that are given again.")
    redis: RedisSettings = Field(RedisSettings(), description="A Redis, for whatever is told to use it.")
    http: HttpSettings = Field(HttpSettings(), description="Sizes and times that the public port allows.")
    teams_file: str | None = Field(None, min_length=1, description="Teams and the hashes of their keys, YAML.")
    open: bool = Field(False, description="Serve whoever can reach the port, without keys.")
    admin_key_hash: str | None = Field(
        None, description="Who has the key of this hash may read /metrics and /admin; see `serving keys new --admin`."
    )
    admin_key_file: str | None = Field(None, min_length=1, description="A file that holds admin_key_hash instead.")
    admission: AdmissionSettings = Field(AdmissionSettings(), description="The queue in front of the engines.")
    limits: LimitSettings = Field(LimitSettings(), description="The limits of teams.")
    usage: UsageSettings = Field(UsageSettings(), description="The account of tokens by team and day.")
    audit: AuditSettings = Field(AuditSettings(), description="Who asked what, and how it ended.")
    logging: LoggingSettings = Field(LoggingSettings(), description="Log lines.")
    tracing: TracingSettings = Field(TracingSettings(), description="Spans for OpenTelemetry.")
    frames: FrameSettings = Field(FrameSettings(), description="Tokens on their way from the engines.")
    failover: FailoverSettings = Field(FailoverSettings(), description="Answers whose engine is lost.")
    backends: BackendsSettings = Field(BackendsSettings(), description="Other servers that answer for models.")
    ray_address: str | None = Field(
        None, min_length=1, description="A running Ray cluster to join; unset: start one on this machine."
    )
    cache_dir: str | None = Field(
        None,
        min_length=1,
        description="Where the demo checkpoint and compiled kernels are kept; unset: the user's cache directory.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments alone: the library's other sources pass over unknown variables and forget lines and names."""
        return (init_settings,)

    @field_validator("admin_key_hash")
    @classmethod
    def _hash(cls, text: str | None) -> str | None:
        if text is not None:
            KeyHash.parse(text)
        return text

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
            raise ValueError(f"should be an address or a host name alone, such as 127.0.0.1; got {host!r}")
        return host

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        findings = [
            *self._engine_findings(),
            *self._name_findings(),
            *self._store_findings(),
            *self._access_findings(),
            *self._fallback_findings(),
        ]
        if findings:
            raise several(findings)
        return self

    def _fallback_findings(self) -> list[tuple[KeyPath, str]]:
        findings: list[tuple[KeyPath, str]] = []
        for name, model in self.models.items():
            for number, selector in enumerate(model.fallback):
                path = ("models", name, "fallback", str(number))
                if not is_model_name(selector):
                    findings.append((path, "should be PROVIDER:MODEL or a model's name, without blanks"))
                elif selector.removeprefix("local:") in (name, *model.aliases):
                    findings.append((path, "is the model itself"))
        if self.backends.registrations == "redis" and self.redis.url is None:
            findings.append((("backends", "registrations"), "is redis, and redis.url does not say where that is"))
        return findings

    def _store_findings(self) -> list[tuple[KeyPath, str]]:
        if self.redis.url is not None:
            return []
        kept = {"responses": self.responses.backend, "cache": self.cache.backend}
        wanting = [f"`{section}.backend: redis`" for section, backend in kept.items() if backend == "redis"]
        return [(("redis", "url"), f"is missing, and asked for by {' and '.join(wanting)}")] if wanting else []

    def _engine_findings(self) -> list[tuple[KeyPath, str]]:
        if self.engine == "scripted":
            missing = "is missing: the scripted engine plays a file of answers; name it here or with --script"
            return [(("script",), missing)] if self.script is None else []
        findings: list[tuple[KeyPath, str]] = []
        if self.script is not None:
            findings.append((("script",), "is for the scripted engine alone; set `engine: scripted` or remove it"))
        findings.extend(
            (("models", name, "source"), "is missing: say where the checkpoint is, such as openai/gpt-oss-20b, or demo")
            for name, model in self.models.items()
            if name != "demo" and "source" not in model.model_fields_set
        )
        return findings

    def _access_findings(self) -> list[tuple[KeyPath, str]]:
        findings: list[tuple[KeyPath, str]] = []
        if self.open and self.teams_file is not None:
            findings.append((("open",), "means no keys are asked for, and teams_file that they are; remove one"))
        if self.admin_key_hash is not None and self.admin_key_file is not None:
            findings.append((("admin_key_file",), "says again what admin_key_hash says; remove one"))
        if self.redis.url is None:
            findings.extend(
                ((name, "backend"), "is redis, and redis.url does not say where that is")
                for name, backend in (("limits", self.limits.backend), ("usage", self.usage.backend))
                if backend == "redis"
            )
        return findings

    def _name_findings(self) -> list[tuple[KeyPath, str]]:
        findings: list[tuple[KeyPath, str]] = []
        owners: dict[str, str] = {name: name for name in self.models}
        for name, model in self.models.items():
            if not is_model_name(name):
                findings.append((("models", name), NAME_RULE))
            for number, alias in enumerate(model.aliases):
                path = ("models", name, "aliases", str(number))
                if not is_model_name(alias):
                    findings.append((path, NAME_RULE))
                if alias in owners:
                    findings.append(
                        (path, f"`{alias}` already means the model {owners[alias]}; names are for one model")
                    )
                owners.setdefault(alias, name)
        findings += self._adapter_findings(owners)
        return findings + self._variant_findings(owners)

    def _adapter_findings(self, owners: dict[str, str]) -> list[tuple[KeyPath, str]]:
        """What is wrong with the adapters' names, which become owners' too."""
        findings: list[tuple[KeyPath, str]] = []
        for name, model in self.models.items():
            for adapter in model.adapters:
                path = ("models", name, "adapters", adapter)
                if not is_model_name(adapter):
                    findings.append((path, NAME_RULE))
                if adapter in owners:
                    findings.append((path, f"already means the model {owners[adapter]}; use another name"))
                owners.setdefault(adapter, name)
        return findings

    def _variant_findings(self, owners: Mapping[str, str]) -> list[tuple[KeyPath, str]]:
        findings: list[tuple[KeyPath, str]] = []
        for name, variant in self.variants.items():
            if not is_model_name(name):
                findings.append((("variants", name), NAME_RULE))
            if name in owners:
                findings.append((("variants", name), f"already means the model {owners[name]}; use another name"))
            if variant.model not in owners:
                findings.append((("variants", name, "model"), f"should be a model of this server: {', '.join(owners)}"))
        return findings


NAME_RULE = "a model's name is 1 to 200 printable characters without blanks, as clients send it"


def is_model_name(name: str) -> bool:
    """Whether clients can be given that name for a model; see NAME_RULE."""
    return 0 < len(name) <= 200 and name.isprintable() and not any(map(str.isspace, name))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each that is not a default came from."""

    settings: Settings
    layer: Layer

    def located(self, path: KeyPath, message: str) -> Problem:
        """A problem with the setting at `path`, with where that was set."""
        origin = self.layer.origin(path)
        return Problem(dotted(path), f"{message} ({origin})" if origin else message)


def load_settings(
    *,
    config: Path | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str],
    models: Sequence[str] = (),
    tensor_parallel_size: int | None = None,
) -> Settings:
    """Flags over variables over the file over defaults; raises SettingsError with every mistake found.

    `config` is the file, else SERVING_CONFIG names it, else there is none. `overrides` are flags, nested as the tree
    is; `models` and `tensor_parallel_size` are --model and --tensor-parallel-size (see configuration.selection).
    Unknown names and wrong values in all sources are found at once; what does not fit together (a name used twice,
    an engine without its script) once single values are right.
    """
    return load(read_sources(Settings, config, overrides, environ, models, tensor_parallel_size)).settings


def load(layer: Layer) -> Loaded:
    """The settings in `layer`, which read_sources has made; raises SettingsError."""
    problems: list[tuple[str, str]] = list(layer.problems)
    try:
        settings = Settings(**layer.values)
    except ValidationError as error:
        told = {field for field, _ in problems}
        problems += [problem for problem in from_validation(error, layer) if problem.field not in told]
        raise SettingsError(problems) from error
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, layer)
