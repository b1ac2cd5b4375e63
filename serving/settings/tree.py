"""Settings of a server as one tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from serving.settings.accounting import AuditSettings, LimitSettings, UsageSettings
from serving.settings.admission import AdmissionSettings
from serving.settings.backends import BackendsSettings
from serving.settings.base import Section
from serving.settings.batches import BatchSettings
from serving.settings.failover import FailoverSettings
from serving.settings.frames import FrameSettings
from serving.settings.http import HttpSettings
from serving.settings.keys import KeyHash
from serving.settings.layer import KeyPath
from serving.settings.models import ModelSettings
from serving.settings.oidc import OidcSettings
from serving.settings.presets import PresetSettings
from serving.settings.problems import several
from serving.settings.recovery import RecoverySettings
from serving.settings.redis import RedisSettings
from serving.settings.storage import CacheSettings, ResponsesSettings
from serving.settings.telemetry import LoggingSettings, TracingSettings


class Settings(Section):
    """Root of the settings.

    `Settings(...)` takes what it is given and reads nothing else; load_settings reads a file and the environment.
    """

    host: str = Field("127.0.0.1", description="Address the API listens on; loopback unless set.")
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    engine: Literal["vllm", "scripted"] = Field("vllm", description="scripted plays a file of answers, for tests.")
    script: str | None = Field(None, min_length=1, description="The scripted engine's file: JSON lines.")
    models: dict[str, ModelSettings] = Field(
        default_factory=lambda: {"demo": ModelSettings()},
        min_length=1,
        description="Served models by the name clients use.",
    )
    variants: dict[str, PresetSettings] = Field(
        default_factory=dict, description="Presets over a model, each under a name that clients use like a model's."
    )
    ingress_replicas: int = Field(1, ge=1, description="Copies of the process that speaks HTTP.")
    responses: ResponsesSettings = Field(
        ResponsesSettings(), description="POST /v1/responses: its store, and the form of the analysis."
    )
    cache: CacheSettings = Field(CacheSettings(), description="Answers that are given again.")
    redis: RedisSettings = Field(RedisSettings(), description="A Redis, for whatever is told to use it.")
    http: HttpSettings = Field(HttpSettings(), description="Sizes and times that the public port allows.")
    teams_file: str | None = Field(None, min_length=1, description="Teams and the hashes of their keys, YAML.")
    oidc: OidcSettings = Field(OidcSettings(), description="Tokens of an identity provider, beside keys.")
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
    batches: BatchSettings = Field(BatchSettings(), description="Files of requests, answered by idle engines.")
    recovery: RecoverySettings = Field(
        RecoverySettings(), description="Turns of a model that gave the user nothing, or called what there is not."
    )
    backends: BackendsSettings = Field(BackendsSettings(), description="Other servers that answer for models.")
    ray_address: str | None = Field(
        None, min_length=1, description="A running Ray cluster to join; unset: start one on this machine."
    )
    cache_dir: str | None = Field(
        None,
        min_length=1,
        description="Where the demo checkpoint and compiled kernels are kept; unset: the user's cache directory.",
    )

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
        if self.oidc.issuer is not None and self.teams_file is None:
            findings.append((("teams_file",), "is missing: `oidc` says which team a token is of, the file what it may"))
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
        return findings + self._preset_findings(owners)

    def _adapter_findings(self, owners: dict[str, str]) -> list[tuple[KeyPath, str]]:
        """Problems of the adapters' names, which are added to `owners`."""
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

    def _preset_findings(self, owners: Mapping[str, str]) -> list[tuple[KeyPath, str]]:
        findings: list[tuple[KeyPath, str]] = []
        for name, preset in self.variants.items():
            if not is_model_name(name):
                findings.append((("variants", name), NAME_RULE))
            if name in owners:
                findings.append((("variants", name), f"already means the model {owners[name]}; use another name"))
            if preset.model not in owners:
                findings.append((("variants", name, "model"), f"should be a model of this server: {', '.join(owners)}"))
        return findings


NAME_RULE = "a model's name is 1 to 200 printable characters without blanks, as clients send it"


def is_model_name(name: str) -> bool:
    """Whether clients can be given `name` for a model; see NAME_RULE."""
    return 0 < len(name) <= 200 and name.isprintable() and not any(map(str.isspace, name))
