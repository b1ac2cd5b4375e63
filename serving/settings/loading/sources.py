"""Merge of all sources of settings in one layer: flags over variables over the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.settings.layer import Layer
from serving.settings.loading.environment import CONFIG_VARIABLE, read_environment
from serving.settings.loading.paths import absolute_paths
from serving.settings.loading.provider_variables import usual_variables
from serving.settings.loading.selection import select
from serving.settings.loading.tree import TreeType, checked
from serving.settings.loading.yaml_file import read_yaml


def read_sources(
    root: TreeType,
    config: Path | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str],
    models: Sequence[str] = (),
    tensor_parallel_size: int | None = None,
) -> Layer:
    """Merge everything that was set; names that `root` does not know are taken out and reported.

    Relative paths are seen from the file they stand in, those of flags and variables from the working directory.
    """
    here = Path.cwd()
    layer = Layer()
    if config is None and (named := environ.get(CONFIG_VARIABLE)):
        config = Path(named)
    if config is not None:
        layer = read_yaml(config)
        layer.values = absolute_paths(layer.values, (here / config).parent)
    variables = read_environment(environ, root, layer)
    variables.values = absolute_paths(variables.values, here)
    layer = layer.under(usual_variables(environ, layer.under(variables)))
    layer = select(layer.under(variables), models, tensor_parallel_size, here)
    return checked(layer.under(_flags(overrides, here)), root)


def _flags(overrides: Mapping[str, Any], here: Path) -> Layer:
    layer = Layer()
    for name, value in overrides.items():
        layer.set((name,), value, f"--{str(name).replace('_', '-')}")
    layer.values = absolute_paths(layer.values, here)
    return layer
