"""Selection of the models to serve and of their devices: `--model` and `--tensor-parallel-size`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.settings.layer import KeyPath, Layer, Problem
from serving.settings.loading.paths import absolute, is_path

_MODEL = "--model"
_TENSOR_PARALLEL_SIZE = "--tensor-parallel-size"


def select(layer: Layer, wanted: Sequence[str], tensor_parallel_size: int | None, base: Path) -> Layer:
    """Keep the `wanted` models of `layer` alone, or all its models where none is wanted.

    A wanted model is a name that the layer has, or a source: `demo`, a directory (seen from `base`), a hub id. A
    source gets its last part for a name, and what the layer says of a model of that name goes for it too.
    """
    result = Layer(dict(layer.values), dict(layer.origins), list(layer.problems))
    configured = layer.values.get("models")
    known: dict[str, Any] = configured if isinstance(configured, dict) else {}
    if wanted:
        result.values["models"] = {}
        for text in dict.fromkeys(wanted):
            _add(result, known, text, base)
    if tensor_parallel_size is not None:
        models = result.values.setdefault("models", {"demo": {}})
        if isinstance(models, dict) and len(models) == 1:
            result.set(("models", *models, "tensor_parallel_size"), tensor_parallel_size, _TENSOR_PARALLEL_SIZE)
        else:
            message = f"{_TENSOR_PARALLEL_SIZE} is for one model; name it with {_MODEL}, or set it in the file"
            result.problems.append(Problem("models", message))
    return result


def _add(result: Layer, known: dict[str, Any], text: str, base: Path) -> None:
    chosen = result.values["models"]
    if text in known and text not in chosen:
        chosen[text] = known[text]
        return
    source = absolute(text, base) if is_path(text) or os.path.isdir(base / text) else text
    path: KeyPath = ("models", source.rstrip("/").rpartition("/")[2])
    if path[1] in chosen:
        message = f"{_MODEL} {text} would be called `{path[1]}` like another; give both names in a settings file"
        result.problems.append(Problem("models", message))
        return
    if path[1] in known:
        chosen[path[1]] = known[path[1]]
    result.set((*path, "source"), source, _MODEL)
