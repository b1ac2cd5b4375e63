"""A server on an NVIDIA GPU: gpt-oss-20b's shape with made-up weights, whose answers are forced to be Harmony."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from benchmarks.gpu.checkpoint import write_checkpoint
from benchmarks.gpu.forced import VARIABLE, Resuming, script
from serving.engine.accelerator import probe
from serving.harmony.vocabulary import decode
from tests.e2e.conftest import Stack, started

MODEL = "gpt-oss-20b"
MARKER = "GPU_MARKER"
"""A variable that all processes of the server inherit."""

REASONING, FINAL = 300, 200
ROOT = Path(__file__).parents[2]
GIB = 2**30


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """`make test` leaves these out on a GPU too: they take all of it, for minutes."""
    reason = None
    if probe().capability is None:
        reason = "no NVIDIA GPU is found"
    elif "gpu" not in str(config.getoption("markexpr")):
        reason = "runs with make test-gpu"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.timeout(400))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def used_bytes() -> int:
    """Memory in use on the first GPU, whoever uses it."""
    import pynvml

    pynvml.nvmlInit()
    try:
        used: int = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used
        return used
    finally:
        pynvml.nvmlShutdown()


def forced_texts() -> tuple[str, str]:
    """Reasoning and content of every answer that is not cut or constrained."""
    _, thought, said = decode(script(REASONING, FINAL)).split("<|message|>")
    return thought.partition("<|end|>")[0], said.partition("<|return|>")[0]


def write_settings(folder: Path, checkpoint: Path, **model: Any) -> Path:
    """A settings file for `serving up`; `model` comes on top of what all stacks here have."""
    engine: Mapping[str, Any] = {
        "load_format": "dummy",
        "gpu_memory_utilization": 0.42,
        "kv_cache_memory_bytes": 8_000_000_000,
        "logits_processors": [Resuming.NAME],
        **model.pop("engine_args", {}),
    }
    settings = {"models": {MODEL: {"source": str(checkpoint), "max_num_seqs": 64, "engine_args": engine, **model}}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "serving.yaml"
    path.write_text(json.dumps(settings))  # YAML too
    return path


@contextmanager
def served(folder: Path, settings: Path) -> Iterator[Stack]:
    """`serving up` with a forced reply, until the end of the block."""
    environment = {
        MARKER: str(folder),
        VARIABLE: f"{REASONING},{FINAL}",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    with started(folder, "--config", str(settings), environment=environment) as running:
        yield running


def engine_core(stack: Stack) -> psutil.Process:
    """vLLM's process that holds the GPU."""
    (core,) = (each for each in stack.processes() if "VLLM::EngineCore" in " ".join(each.cmdline()))
    return core


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up checkpoint."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / MODEL, "20b")


@contextmanager
def client_of(stack: Stack) -> Iterator[OpenAI]:
    """OpenAI's own client, which does not try again by itself."""
    with OpenAI(base_url=f"{stack.root}/v1", api_key="unused", max_retries=0, timeout=240) as client:
        yield client
