"""Settings of backends: other servers, which of them may be added while running, and their timeouts and retries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from serving.settings.base import Section
from serving.settings.layer import KeyPath
from serving.settings.problems import several

BackendType = Literal["openai", "ollama", "lmstudio", "huggingface", "vllm", "serving"]

LOCAL_PROVIDER = "local"
"""Provider in selectors that means our own engines."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class KnownType:
    """Type of backend with its default address.

    `url_variable` overrides `url`; `key_variable` names the key, which goes to the type's own address alone.
    """

    url: str | None
    url_variable: str
    key_variable: str | None = None


KNOWN_TYPES: Mapping[BackendType, KnownType] = {
    "openai": KnownType("https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "ollama": KnownType("http://127.0.0.1:11434/v1", "OLLAMA_BASE_URL"),
    "lmstudio": KnownType("http://127.0.0.1:1234/v1", "LMSTUDIO_BASE_URL"),
    "huggingface": KnownType("https://router.huggingface.co/v1", "HUGGING_FACE_BASE_URL", "HUGGING_FACE_API_KEY"),
    "vllm": KnownType(None, "VLLM_BASE_URL"),
    "serving": KnownType(None, "GPT_OSS_SERVING_BASE_URL"),
}
"""Types of backends; `serving` is another copy of this server. Addresses are each program's documented default."""


def checked_name(name: str) -> str:
    """Check a backend's name; raises ValueError."""
    if name == LOCAL_PROVIDER or not _NAME.fullmatch(name):
        raise ValueError(
            "a backend's name is 1 to 64 letters, digits, dots, dashes and _, "
            f"not `{LOCAL_PROVIDER}`, which means this server"
        )
    return name


def checked_url(url: str) -> str:
    """Complete a base URL, with /v1 where it has no path; raises ValueError. Does not check the host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"cannot be read as an address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise ValueError("should be http://HOST:PORT/v1 or https://HOST/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no user and no password; name the variable that holds a key in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("should end with its path, without ? and #")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _named(models: object) -> object:
    return {name: name for name in models} if isinstance(models, list | tuple) else models


class BackendSettings(Section):
    """Backend: a server that speaks OpenAI's API."""

    type: BackendType | None = Field(None, description="Its dialect; unset: the backend's name, where that is a type.")
    url: str | None = Field(None, description="Its base URL, such as http://host:8000/v1; unset: where its type is.")
    models: Annotated[dict[str, str], BeforeValidator(_named, json_schema_input_type=list[str] | dict[str, str])] = (
        Field(
            default_factory=dict,
            description="Names clients use to the server's own; a list where they are the same; unset: all it lists.",
        )
    )
    api_key_env: str | None = Field(None, description="The environment variable that holds its key.")
    external: bool | None = Field(
        None, description="Whether prompts leave the house; unset: yes, unless it is on this machine."
    )
    weight: float = Field(1.0, gt=0, le=1000, description="How much of the work it gets, next to others.")

    @field_validator("models")
    @classmethod
    def _model_names(cls, models: dict[str, str]) -> dict[str, str]:
        for name in (*models, *models.values()):
            if not 0 < len(name) <= 200 or not name.isprintable() or any(map(str.isspace, name)):
                raise ValueError("a model's name is 1 to 200 printable characters without blanks")
        return models

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        return None if url is None else checked_url(url)

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            raise ValueError("should be the name of an environment variable, not a key itself")
        return name


class RetrySettings(Section):
    """Timeouts and retries of requests to backends."""

    connect_s: float = Field(5.0, gt=0, description="Longest time to connect, in seconds.")
    first_token_s: float = Field(120.0, gt=0, description="Longest time from asking to the first token, in seconds.")
    between_tokens_s: float = Field(60.0, gt=0, description="Longest silence of an answer under way, in seconds.")
    attempts: int = Field(3, ge=1, le=20, description="Times a request is tried, as long as it has no token.")
    backoff_s: float = Field(0.25, gt=0, description="First pause before a backend is asked again; doubles, in s.")
    longest_pause_s: float = Field(5.0, gt=0, description="Longest such pause, also where Retry-After asks for more.")
    failures: int = Field(5, ge=1, description="Failures in a row that close a backend to requests.")
    closed_s: float = Field(15.0, gt=0, description="Seconds until one request may try it again.")
    check_every_s: float = Field(10.0, gt=0, description="Seconds between two looks at whether a backend answers.")


class BackendsSettings(Section):
    """Servers beside our own engines."""

    servers: dict[str, BackendSettings] = Field(
        default_factory=dict, description="Backends by name; those named like a type need nothing else."
    )
    external: bool = Field(
        False, description="Where there are no teams: whether requests may leave the house. Teams have their own line."
    )
    allow: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Hosts, *.domains and networks that backends registered while serving may be at.",
    )
    registrations: Literal["file", "redis"] = Field(
        "file",
        description="Where backends and adapters that are added while serving are kept: in cache_dir, or in Redis.",
    )
    concurrent_requests: int = Field(
        256,
        ge=1,
        description="Requests under way at backends with the same model, for each ingress replica; others wait.",
    )
    patience: RetrySettings = Field(RetrySettings(), description="How long backends are waited for.")
    base_urls: dict[str, str] = Field(
        default_factory=dict, description="Where a type's servers are; OLLAMA_BASE_URL and the like set it too."
    )
    key_variables: tuple[str, ...] = Field(
        (), description="Environment variables whose keys registered backends may use, beside OPENAI_API_KEY and such."
    )
    keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="Keys by their variable's name; filled from the environment. Never shown."
    )

    @field_validator("allow")
    @classmethod
    def _hosts_and_networks(cls, allowed: tuple[str, ...]) -> tuple[str, ...]:
        for each in allowed:
            if _HOST.fullmatch(each) and not each.replace(".", "").isdigit():
                continue
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(f"should be hosts, *.domains or networks such as 10.0.0.0/8: {error}") from error
        return allowed

    @model_validator(mode="after")
    def _named_and_placed(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        for named, url in self.base_urls.items():
            try:
                checked_url(url)
            except ValueError as error:
                findings.append((("base_urls", named), str(error)))
            if named not in KNOWN_TYPES:
                findings.append((("base_urls", named), f"is no type; types are {', '.join(KNOWN_TYPES)}"))
        if findings:
            raise several(findings)
        for name, backend in self.servers.items():
            try:
                checked_name(name)
            except ValueError as error:
                findings.append((("servers", name), str(error)))
            type_ = self.type_of(name, backend)
            if type_ is None:
                findings.append((("servers", name, "type"), f"is missing: one of {', '.join(KNOWN_TYPES)}"))
            elif self.url_of(type_, backend) is None:
                findings.append((("servers", name, "url"), f"is missing: {type_} has no usual address"))
        if findings:
            raise several(findings)
        return self

    @staticmethod
    def type_of(name: str, backend: BackendSettings) -> BackendType | None:
        """Type of the backend, from its settings or its name."""
        return backend.type or next((type_ for type_ in KNOWN_TYPES if type_ == name), None)

    def url_of(self, type_: BackendType, backend: BackendSettings) -> str | None:
        """URL of the backend; None where no setting names one."""
        url = backend.url or self.base_urls.get(type_) or KNOWN_TYPES[type_].url
        return None if url is None else checked_url(url)

    def key_of(self, type_: BackendType, backend: BackendSettings) -> SecretStr | None:
        """API key of the backend. A type's usual key goes to the type's usual address only, never to another."""
        name = backend.api_key_env or (KNOWN_TYPES[type_].key_variable if backend.url is None else None)
        return None if name is None else self.keys.get(name)


def variables_of(backends: Mapping[str, object]) -> set[str]:
    """Names of the environment variables with keys that a raw `backends` section needs, and the usual ones."""
    names = {known.key_variable for known in KNOWN_TYPES.values() if known.key_variable}
    further = backends.get("key_variables")
    if isinstance(further, list | tuple):
        names.update(name for name in further if isinstance(name, str))
    servers = backends.get("servers")
    for server in servers.values() if isinstance(servers, Mapping) else ():
        if isinstance(server, Mapping) and isinstance(named := server.get("api_key_env"), str):
            names.add(named)
    return names
