"""`serving up`: serve until stopped."""

from __future__ import annotations

import importlib.util
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.commands.options import ConfigOption
from serving.engine.accelerator import device_problem, probe
from serving.engine.vllm.arguments import engine_argument_problems, engine_argument_types
from serving.errors import CheckpointError, SettingsError
from serving.planning.misfits import misfits
from serving.settings.cache_dir import default_cache_dir
from serving.settings.loading.load import Loaded, load
from serving.settings.loading.sources import read_sources
from serving.settings.loading.teams_file import read_teams_file
from serving.settings.tree import Settings
from serving.tenancy.auth.authenticator import admin_hash
from serving.tenancy.auth.exposure import check_exposure


class EngineName(StrEnum):
    """Values of --engine."""

    VLLM = "vllm"
    SCRIPTED = "scripted"


def up_command(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. 127.0.0.1 unless set; 0.0.0.0 is every interface.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 unless set.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Serve only this: `demo`, a directory, a hub id, or a name from the settings. Repeatable.",
        ),
    ] = None,
    tensor_parallel_size: Annotated[
        int | None, typer.Option(metavar="N", help="Devices that share each layer of the one model served.")
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="scripted plays a file of answers, for tests.")] = None,
    script: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The scripted engine's answers, JSON lines.")
    ] = None,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Serve whoever reaches the port, without keys; needed beyond loopback.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--update", help="Have the `serving up` that runs on this port take these settings, rolling."),
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Join this Ray cluster instead of starting one here.")
    ] = None,
) -> None:
    """Serve the models of the settings, or those named by --model, until Ctrl-C.

    Flags win over SERVING_ variables, those over the settings file. With none of them the embedded demo model
    answers on http://127.0.0.1:8000/v1.

    \b
    Examples:
      serving up
      serving up --model openai/gpt-oss-20b
      serving up --model openai/gpt-oss-120b --tensor-parallel-size 8 --host 0.0.0.0 --open
      serving up --config serving.yaml --port 9000
      serving up --config serving.yaml --port 9000 --update
      SERVING_MODELS__DEMO__MAX_NUM_SEQS=8 serving up
    """
    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "engine": engine.value if engine else None,
        "script": str(script) if script else None,
        "ray_address": ray_address,
        "open": open_to_all or None,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    loaded = load(read_sources(Settings, config, overrides, os.environ, model or (), tensor_parallel_size))
    check_exposure(loaded.settings)
    if loaded.settings.teams_file is not None:
        read_teams_file(Path(loaded.settings.teams_file))
    admin_hash(loaded.settings)
    refuse_what_vllm_would(loaded)
    # Ray takes seconds to import; mistakes in the settings are told before.
    from serving.cluster.run.up import up, update

    settings = with_batches(loaded.settings)
    raise typer.Exit(update(settings) if take_over else up(settings))


def with_batches(settings: Settings) -> Settings:
    """`settings` with a folder for batches in the cache folder, where they name no storage.

    On one machine alone: in a cluster another machine's processes would not find the files.
    """
    if settings.batches.storage is not None or settings.ray_address is not None:
        return settings
    try:
        folder = Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()
    except CheckpointError:
        return settings
    batches = settings.batches.model_copy(update={"storage": str(folder / "batches")})
    return settings.model_copy(update={"batches": batches})


def refuse_what_vllm_would(loaded: Loaded) -> None:
    """Raise SettingsError now for what vLLM on this machine would refuse a minute later."""
    settings = loaded.settings
    if settings.engine != "vllm" or settings.ray_address is not None:
        return
    if importlib.util.find_spec("vllm") is None:
        message = "vLLM is not installed: install gpt-oss-serving[cpu] or gpt-oss-serving[cuda]"
        raise SettingsError([("engine", message)])
    problems = engine_argument_problems(settings, engine_argument_types() or {})
    if problems:
        raise SettingsError([loaded.located(path, message) for path, message in problems])
    accelerator = probe()
    if (problem := device_problem(accelerator)) is not None:
        raise SettingsError([("engine", problem)])
    if accelerator.memory_bytes is not None:
        found = misfits(settings, accelerator.name, accelerator.memory_bytes)
        if found:
            raise SettingsError([loaded.located(path, message) for path, message in found])
