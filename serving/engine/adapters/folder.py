"""An adapter's files, looked at before an engine is asked to load them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors import SafetensorError

from serving.engine.adapters.weights import Base, misfit
from serving.engine.base import Adapter
from serving.errors import CheckpointError
from serving.settings.adapters import DEMO, LoraSettings
from serving.settings.models import ModelSettings

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_PACKAGED = Path(__file__).parents[2] / "demo" / "adapters" / "pirate"
_LARGEST_CONFIG = 1024 * 1024
_UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "alora_invocation_tokens", "layer_replication")
"""What PEFT can and vLLM cannot (vllm/lora/peft_helper.py)."""


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A directory that holds an adapter in PEFT's format; `fingerprint` is another for other content."""

    path: Path
    rank: int
    fingerprint: str


def find(adapter: Adapter, model: ModelSettings, base: Base | None = None) -> AdapterFolder:
    """The adapter's folder, checked against what the model's settings allow; reads all of it.

    `base` is what the engine knows of the model; unset: what the settings say. Raises CheckpointError, whose text names
    the file and the fix.
    """
    lora = model.lora_settings
    if lora is None:
        raise CheckpointError("This model has no room for adapters; set `lora` among its settings.")
    base = base or Base(lora.target_modules)
    if adapter.source == DEMO:
        if model.source != DEMO:
            raise CheckpointError("The adapter `demo` is for the demo model alone; name a directory.")
        return read(_PACKAGED, lora, base)
    path = Path(adapter.source)
    if not path.is_absolute():
        raise CheckpointError(f"{adapter.source} should be an absolute path.")
    declared = model.adapters.get(adapter.name)
    if declared is None or declared.source != adapter.source:
        path = _allowed(path, lora)
    return read(path, lora, base)


def _allowed(path: Path, lora: LoraSettings) -> Path:
    """`path` without links; raises CheckpointError for one outside of the directories that may be read."""
    try:
        real = path.resolve()
        inside = any(real.is_relative_to(Path(directory).resolve()) for directory in lora.directories)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not inside:
        raise CheckpointError(f"{path} is in none of the directories that `lora.directories` names.")
    return real


def read(path: Path, lora: LoraSettings, base: Base) -> AdapterFolder:
    """Check the files in `path`; see find(). Raises CheckpointError."""
    config, config_bytes = _config(path / CONFIG)
    rank = _rank(config, path / CONFIG)
    if rank > lora.max_lora_rank:
        raise CheckpointError(f"{path} has rank {rank}, more than `lora.max_lora_rank`, {lora.max_lora_rank}.")
    try:
        with (path / WEIGHTS).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256")
        with safetensors.safe_open(path / WEIGHTS, framework="np") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path / WEIGHTS} is missing; adapters are read from safetensors alone.") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / WEIGHTS} cannot be read: {error}") from error
    if (problem := misfit(shapes, base)) is not None:
        raise CheckpointError(f"{path / WEIGHTS} {problem}.")
    checksum.update(config_bytes)
    return AdapterFolder(path, rank, checksum.hexdigest()[:16])


def _config(file: Path) -> tuple[Mapping[str, Any], bytes]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_CONFIG)
        config = json.loads(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing; a directory with an adapter in PEFT's format has it.") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} should hold a JSON object.")
    return config, content


def _rank(config: Mapping[str, Any], file: Path) -> int:
    """The highest rank of any module; raises CheckpointError for what is no plain LoRA."""
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{file}: peft_type should be LORA.")
    if config.get("bias", "none") != "none":
        raise CheckpointError(f"{file}: bias should be none; vLLM adapts weights alone.")
    used = next((name for name in _UNSUPPORTED if config.get(name)), None)
    if used is not None:
        raise CheckpointError(f"{file}: vLLM does not support {used}.")
    patterns = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else [None])]
    whole = [rank for rank in ranks if type(rank) is int and rank > 0]
    if len(whole) < len(ranks):
        raise CheckpointError(f"{file}: r and the ranks in rank_pattern should be whole numbers above 0.")
    return max(whole)
