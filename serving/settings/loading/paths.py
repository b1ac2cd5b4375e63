"""Absolute paths for relative ones in settings: engines run in processes with other working directories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_path(source: str) -> bool:
    """Whether a model's source is a directory rather than a hub id such as openai/gpt-oss-20b."""
    return source in (".", "..") or source.startswith(("/", "./", "../", "~"))


def absolute(path: str, base: Path) -> str:
    """Expand `~` in `path`, and make it absolute from the directory `base`."""
    return os.path.abspath(base / os.path.expanduser(path))


def absolute_paths(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Copy raw settings with absolute paths of all files and directories that they name."""
    result = dict(values)
    for key in ("script", "cache_dir", "teams_file", "admin_key_file"):
        if isinstance(path := result.get(key), str) and path:
            result[key] = absolute(path, base)
    for section, key in (("usage", "database"), ("audit", "file")):
        if isinstance(inside := result.get(section), dict) and isinstance(path := inside.get(key), str) and path:
            result[section] = inside | {key: absolute(path, base)}
    batches = result.get("batches")
    if isinstance(batches, dict) and isinstance(path := batches.get("storage"), str) and is_path(path):
        result["batches"] = batches | {"storage": absolute(path, base)}
    if isinstance(models := result.get("models"), dict):
        result["models"] = {name: _absolute_source(model, base) for name, model in models.items()}
    return result


def _absolute_source(model: Any, base: Path) -> Any:
    if isinstance(model, dict) and isinstance(source := model.get("source"), str) and is_path(source):
        return model | {"source": absolute(source, base)}
    return model
