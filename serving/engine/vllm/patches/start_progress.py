"""Patch: steps of a vLLM engine's start, reported while vLLM itself is silent for a minute or two.

vLLM logs each step in its own processes, below the level that is printed. `report_steps` is loaded there by vLLM like
parent.py and writes the steps that people want to hear of into a file; `Steps` reads it where the engine was asked for.
The CUDA graphs are counted from vLLM's progress bar, which goes to the output of its processes.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

VARIABLE = "SERVING_ENGINE_STEPS"
"""Names the file to vLLM's processes."""

_GIB = 2**30
_QUARTERS = 4

LOGGED: Mapping[str, tuple[str, ...]] = {
    "v1/worker/cpu_model_runner.py": ("Starting to load model ",),
    "v1/worker/gpu_model_runner.py": (
        "Starting to load model ",
        "Model loading took %s GiB memory and %.6f seconds",
        "Graph capturing finished in %.0f secs, took %.2f GiB",
        "Capturing CUDA graphs",
    ),
    "v1/worker/gpu/model_runner.py": (
        "Loading model from scratch",
        "Model loading took %s GiB memory and %.6f seconds",
        "Graph capturing finished in %.0f secs, took %.2f GiB",
    ),
    "v1/worker/gpu/cudagraph_utils.py": ("Capturing CUDA graphs",),
    "compilation/monitor.py": ("Starting torch.compile", "torch.compile took %.2f s in total"),
    "v1/core/kv_cache_utils.py": ("%s KV cache size: %s tokens",),
}
"""Files of vLLM 0.32 and the texts in them that are looked for below; a test looks whether vLLM still has them."""

_LOADED = re.compile(r"Model loading took ([\d.]+) GiB memory and ([\d.]+) seconds")
_COMPILED = re.compile(r"torch\.compile took ([\d.]+) s in total")
_CACHE = re.compile(r"GPU KV cache size: ([\d,]+) tokens")
_CAPTURED = re.compile(r"Graph capturing finished in (\d+) secs, took ([\d.]+) GiB")
_BAR = re.compile(r"Capturing[^\r\n]*CUDA graphs[^\r\n]*?\s(\d+)/(\d+)\s")


def step_of(message: str) -> str | None:
    """The step that one of vLLM's log messages reports, in words; None if it reports none."""
    if message.startswith(("Loading model from scratch", "Starting to load model")):
        return "loading weights"
    if found := _LOADED.search(message):
        size, seconds = float(found[1]) * _GIB / 1e9, float(found[2])
        speed = f", {size / seconds:.1f} GB/s" if seconds else ""
        return f"weights loaded ({size:.1f} GB in {seconds:.1f} s{speed})"
    if "Starting torch.compile" in message:
        return "compiling"
    if found := _COMPILED.search(message):
        return f"compiled ({float(found[1]):.0f} s)"
    if found := _CACHE.search(message):
        return f"KV cache of {found[1]} tokens; compiling kernels"
    if found := _CAPTURED.search(message):
        return f"CUDA graphs captured ({found[1]} s, {found[2]} GiB)"
    return None


def graphs_in(output: str) -> str | None:
    """Progress of CUDA graph capture by the last progress bar in the output of vLLM's processes, in quarters."""
    bars = _BAR.findall(output)
    if not bars:
        return None
    done, wanted = map(int, bars[-1])
    quarter = done * _QUARTERS // wanted * wanted // _QUARTERS if wanted else 0
    return f"capturing CUDA graphs, {quarter} of {wanted}"


class _StepHandler(logging.Handler):
    """Appends what step_of() makes of a record to a file. A disk that is full costs the step, not the engine."""

    def __init__(self, path: str) -> None:
        super().__init__(logging.INFO)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if (step := step_of(record.getMessage())) is not None:
            with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{step}\n")


def report_steps() -> None:
    """Have vLLM's log written for Steps, in vLLM's processes. Printed output stays the same: handlers have levels."""
    path = os.environ.get(VARIABLE)
    if path is None or multiprocessing.parent_process() is None:
        return
    vllm = logging.getLogger("vllm")
    if any(isinstance(handler, _StepHandler) for handler in vllm.handlers):
        return
    for handler in vllm.handlers:
        handler.setLevel(max(handler.level, vllm.level))
    vllm.setLevel(min(vllm.level or logging.INFO, logging.INFO))
    vllm.addHandler(_StepHandler(path))


class Steps:
    """The steps of one start as they come. `output` gives what vLLM's processes have printed since it began."""

    def __init__(self, path: Path, output: Callable[[], Iterable[str]]) -> None:
        self._path = path
        self._output = output
        self._told: set[str] = set()

    def new(self) -> list[str]:
        """The steps since the last call, each once: workers of one engine report the same ones."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        if not any(line.startswith("CUDA graphs captured") for line in lines):
            lines += [graphs for text in self._output() if (graphs := graphs_in(text)) is not None]
        fresh = [line for line in dict.fromkeys(lines) if line not in self._told]
        self._told.update(fresh)
        return fresh


@contextlib.contextmanager
def step_file() -> Iterator[Path]:
    """A file for the steps of a start, named to the processes that begin inside; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="engine-steps-") as folder:
        path = Path(folder) / "steps"
        os.environ[VARIABLE] = str(path)
        try:
            yield path
        finally:
            os.environ.pop(VARIABLE, None)
