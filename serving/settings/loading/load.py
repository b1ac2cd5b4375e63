"""Loading of settings from all sources: flags over variables over a file over defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serving.errors import SettingsError
from serving.settings.layer import KeyPath, Layer, Problem, dotted
from serving.settings.loading.sources import read_sources
from serving.settings.problems import from_validation
from serving.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, with the origin of each value that is not a default."""

    settings: Settings
    layer: Layer

    def located(self, path: KeyPath, message: str) -> Problem:
        """Problem with the setting at `path`, with the origin of its value."""
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
    """Load flags over variables over the file over defaults; raises SettingsError with every mistake found.

    `config` is the file, else SERVING_CONFIG names it, else there is none. `overrides` are flags, nested as the tree
    is; `models` and `tensor_parallel_size` are --model and --tensor-parallel-size (see configuration.selection).
    Unknown names and wrong values in all sources are found at once; what does not fit together (a name used twice,
    an engine without its script) once single values are right.
    """
    return load(read_sources(Settings, config, overrides, environ, models, tensor_parallel_size)).settings


def load(layer: Layer) -> Loaded:
    """Validate the settings in `layer`, which read_sources has made; raises SettingsError."""
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
