"""Why an engine did not start: the root cause in a few lines, its kind, and what to do about it.

vLLM's engine and workers are processes of their own. The process that starts them learns no more than "Engine core
initialization failed. See root cause above", so the cause is looked for in what they have written.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

from serving.errors import CheckpointError, ServingError, SettingsError

StartFailureReason = Literal[
    "out_of_memory", "driver", "missing_package", "unsupported_argument", "checkpoint", "other"
]
START_FAILURE_REASONS: tuple[StartFailureReason, ...] = get_args(StartFailureReason)

FIXES: Mapping[StartFailureReason, str] = {
    "out_of_memory": "free the memory that other processes hold (nvidia-smi, free -h), or have this model take less: a "
    "lower max_model_len, max_num_seqs or engine_args.gpu_memory_utilization, a smaller "
    "engine_args.kv_cache_memory_bytes, or a higher tensor_parallel_size; `serving plan` reckons what fits",
    "driver": "the GPU's driver does not suit the installed CUDA libraries, or a GPU cannot be used: look at "
    "nvidia-smi, update the driver, and give a container its GPUs (--gpus all)",
    "missing_package": "install the package that is named into the environment that `serving` runs in, or take the "
    "setting away that asks for it",
    "unsupported_argument": "change or remove the setting that is named; `serving check` tells what is set and where",
    "checkpoint": "compare the model's source with the files that are there; `serving fetch` gets a complete "
    "checkpoint, and gated ones need HF_TOKEN",
    "other": "read the log; the last error in it is the one above",
}
"""What to do about each."""
OWN_FIX = "do what the message above says"
"""The same for errors of ours, which say it themselves."""

_MOST_LINES = 3
_LONGEST_LINE = 300
_MOST_READ = 512 * 1024

# In the order in which they are tried; searched for in "SomeError: its message". First those with words of others.
_SIGNS: tuple[tuple[StartFailureReason, re.Pattern[str]], ...] = (
    ("checkpoint", re.compile(r"does not recognize this architecture|CheckpointError|SafetensorError")),
    ("unsupported_argument", re.compile(r"User-specified max_model_len|unexpected keyword argument")),
    (
        "out_of_memory",
        re.compile(
            r"out of memory|OutOfMemory|\bMemoryError\b|not enough memory|Cannot allocate memory|bad_alloc|"
            r"can't allocate memory|less than desired (GPU|CPU) memory|No available memory|"
            r"(?i:available memory|free memory on device)|"
            r"memory is needed|needed.{0,60}larger than the available KV cache|KV cache.{0,80}(memory|GiB)|"
            r"\(SIGKILL\)|sigkill",
        ),
    ),
    (
        "driver",
        re.compile(
            r"(?i:nvidia driver|driver version|driver.{0,20}too old|insufficient driver|no cuda gpus|"
            r"CUDA unknown error|no CUDA-capable device|cuda initialization|libcuda\.so|NVML|NCCL|"
            r"no kernel image is available|cudaError|CUDA error|device-side)"
        ),
    ),
    (
        "missing_package",
        re.compile(
            r"ModuleNotFoundError|PackageNotFoundError|No module named|ImportError: cannot import|"
            r"(?i:is not installed|please install|pip install)|cannot open shared object file|"
            r"[Ff]ailed to find C compiler|ninja",
        ),
    ),
    (
        "checkpoint",
        re.compile(
            r"(?i:config\.json|safetensors|model weights|checkpoint|"
            r"huggingface|hf\.co|repo(sitory)? (id|not found)|tokenizer)|RepositoryNotFound|GatedRepo|"
            r"LocalEntryNotFound|OfflineMode|HFValidation|model_type|no `architectures`|"
            r"[Mm]odel architectures?|not a (valid|local) (folder|model)|weights? (were|was|is|are) not|"
            r"No such file or directory",
        ),
    ),
    (
        "unsupported_argument",
        re.compile(
            r"ValidationError|NotImplementedError|"
            # Errors of other classes, and "expected" and "must" anywhere, are as often bugs as mistakes.
            r"(?:ValueError|TypeError|AssertionError): (?i:.*(?:unsupported|not supported|does not support|"
            r"invalid|unknown|unrecognized|must be|should be|cannot be|not a valid|valid options|greater than|"
            r"not compatible))",
        ),
    ),
)

# What a process says whose own child has the cause.
_POINTERS = re.compile(
    r"See (root cause|stack trace)|Engine core initialization failed|WorkerProc initialization failed|"
    r"EngineCore encountered an issue|EngineDeadError|Executor failed|cancelled|"
    r"One or more (workers|engine)|died unexpectedly"
)
_KILLED = re.compile(r"'\w+': -9\b|exit ?code:? -9\b|SIGKILL")
_TAG = re.compile(r"^\(([^()]*\bpid=\d+[^()]*)\) ?")
_LOGGED = re.compile(r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (?:\.\d+ )?\[[^\]]*\] ?")
_QUIET = re.compile(r"^(?:DEBUG|INFO|WARNING) \d\d-\d\d \d\d:\d\d:\d\d ")
_ERROR = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?::(?: (.*))?)?$")
_BEGIN = "Traceback (most recent call last)"
_NEXT_IN_CHAIN = re.compile(r"^(The above exception was|During handling of the above)")
_UNHEARD = "Exception ignored in"  # a destructor's; it raised nothing that stopped the start

# Pydantic quotes what it was given, which may be every argument there is.
_PYDANTIC_QUOTE = re.compile(r" \[type=\w+, input_value=(?:('[^']{0,60}'|[\d.]+), )?.*", re.DOTALL)
_HUB_TOKEN = re.compile(r"\b(hf_|sk-|gho_|ghp_)\w{6,}")
_NAMED_SECRET = re.compile(
    r"(?i)((?:token|secret|password|passwd|api[_-]?key|authorization)\w*[\"']?\s*[=:]\s*[\"']?(?:bearer\s+)?)[^\s\"',;)]+"
)
_BEARER = re.compile(r"(?i)(\bbearer\s+)\S+")
_USERINFO = re.compile(r"(\w+://)[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class StartFailure:
    """One start that failed. `message` has three lines at most, `log` is where all of it lies.

    `in_a_row` counts the starts of this model that failed alike, one after the other.
    """

    reason: StartFailureReason
    message: str
    fix: str
    log: str | None = None
    in_a_row: int = 1

    @property
    def kind(self) -> str:
        """The same for failures that are alike: figures in a message differ from one start to the next."""
        return f"{self.reason} {re.sub(r'[0-9]+', '#', self.message)}"

    def lines(self) -> list[str]:
        """For people: the message, what to do, where the log lies."""
        return [
            *self.message.splitlines(),
            f"reason: {self.reason}",
            f"fix: {self.fix}",
            f"log: {self.log or 'the output of the engine process'}",
        ]


@dataclass(frozen=True, slots=True)
class FailedStarts:
    """The failed starts of one model: its last start where that failed, and all that failed since the cluster began."""

    last: StartFailure | None = None
    totals: Mapping[StartFailureReason, int] = field(default_factory=dict)


class StartFailures(Protocol):
    """Reader of failed starts, wherever the engines run."""

    async def read(self, models: Sequence[str]) -> Mapping[str, FailedStarts]:
        """The failed starts of these models. Returns within a second, never raises, leaves out unreadable ones."""
        ...


class NoStartFailures:
    """See StartFailures: for engines in the process itself, whose failures end it."""

    async def read(self, models: Sequence[str]) -> Mapping[str, FailedStarts]:
        """See StartFailures."""
        return {}


class ProcessLog:
    """The output of this process and its children from now on, if it goes to files."""

    def __init__(self, descriptors: Sequence[int] = (2, 1)) -> None:
        self._marks: dict[Path, int] = {}
        for descriptor in descriptors:
            path = _file_behind(descriptor)
            if path is not None:
                self._marks.setdefault(path, path.stat().st_size)

    def written(self) -> Iterator[tuple[Path, str]]:
        """Each file with the end of what it has got since; stderr's first."""
        for path, mark in self._marks.items():
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    # A file that has been rotated begins anew.
                    begin = mark if size >= mark else 0
                    file.seek(max(begin, size - _MOST_READ))
                    yield path, file.read(_MOST_READ).decode(errors="replace")
            except OSError:
                continue

    @property
    def path(self) -> Path | None:
        """The file to read first; None where output goes elsewhere."""
        return next(iter(self._marks), None)


def root_cause(error: BaseException, written: Iterable[tuple[Path, str]]) -> tuple[str, Path | None]:
    """ "SomeError: message" of what ended a start, and the file that it was found in.

    `error` is what the start raised; where it only points elsewhere, the last one in `written` that does not.
    """
    chain = [_told(each) for each in _chain(error)]
    if (told := _telling(chain)) is not None:
        return told, None
    for path, text in written:
        for each in reversed(errors_in(text)):
            if (told := _telling(each)) is not None:
                return told, path
    if any(_KILLED.search(told) for told in chain):
        return "The engine's process was killed (SIGKILL), as the kernel does when memory runs out.", None
    return chain[0], None


def _telling(chain: Sequence[str]) -> str | None:
    """Cause that a chain of errors, the last one first, tells; None where it only points elsewhere.

    The last error says what failed; where it does not say why, the first before it that does is added.
    """
    own = [told for told in chain if not _POINTERS.search(told)]
    if not own:
        return None
    why = next((told for told in own if classify(told) != "other"), own[0])
    return own[0] if why == own[0] else f"{own[0].splitlines()[0]}\n{why}"


def errors_in(text: str) -> list[list[str]]:
    """The chains of errors in a log, in order; of each "SomeError: message" from the last one to the first.

    Processes write into each other's lines, so those of each are read by themselves.
    """
    readers: dict[str, _ChainReader] = {}
    chains: list[list[list[str]]] = []
    for line in text.splitlines():
        tag = match.group(1) if (match := _TAG.match(line)) else ""
        said = line[match.end() :] if match else line
        if _QUIET.match(said):
            readers.pop(tag, None)
            continue
        said = _LOGGED.sub("", said)
        readers.setdefault(tag, _ChainReader(chains)).take(said)
    return [["\n".join(lines) for lines in reversed(chain)] for chain in chains]


class _ChainReader:
    """Reads the lines of one process; what it finds goes to `chains`, of each error its lines, the first one first."""

    def __init__(self, chains: list[list[list[str]]]) -> None:
        self._chains = chains
        self._chain: list[list[str]] | None = None
        self._in_frames = False
        self._unheard = False
        self._error: list[str] | None = None

    def take(self, line: str) -> None:
        """The next line."""
        if line.startswith(_UNHEARD):
            self._unheard, self._error = True, None
        elif line.startswith(_BEGIN):
            self._in_frames, self._error = True, None
        elif _NEXT_IN_CHAIN.match(line):
            self._error = None
        elif self._in_frames:
            if line.strip() and not line[0].isspace():
                self._in_frames = False
                self._begin(line)
        elif self._error is not None:
            if line.strip() and len(self._error) < 2 * _MOST_LINES:
                self._error.append(line)
        elif line.strip():
            self._chain = None  # something else was said between two errors

    def _begin(self, line: str) -> None:
        unheard, self._unheard = self._unheard, False
        if unheard or _ERROR.match(line) is None:
            self._chain = None
            return
        self._error = [line]
        if self._chain is None:
            self._chain = []
            self._chains.append(self._chain)
        self._chain.append(self._error)


def classify(told: str) -> StartFailureReason:
    """The kind of failure that "SomeError: message" is."""
    return next((reason for reason, sign in _SIGNS if sign.search(told)), "other")


def start_failure(error: BaseException, log: ProcessLog, place: str = "") -> StartFailure:
    """The report of a start that raised `error`. `place` goes behind the log's path."""
    told, path = root_cause(error, log.written())
    reason: StartFailureReason
    if isinstance(error, CheckpointError):
        reason = "checkpoint"
    elif isinstance(error, SettingsError):
        reason = "unsupported_argument"
    else:
        reason = classify(told)
    path = path or log.path
    fix = OWN_FIX if isinstance(error, ServingError) else FIXES[reason]
    return StartFailure(reason, shortened(told), fix, None if path is None else f"{path}{place}")


def shortened(told: str) -> str:
    """At most three lines of bounded length, without what looks like a secret."""
    for pattern, replacement in (
        (_HUB_TOKEN, r"\1[hidden]"),
        (_USERINFO, r"\1[hidden]@"),
        (_NAMED_SECRET, r"\1[hidden]"),
        (_BEARER, r"\1[hidden]"),
    ):
        told = pattern.sub(replacement, told)
    told = _PYDANTIC_QUOTE.sub(lambda quote: f" (is {quote.group(1)})" if quote.group(1) else "", told)
    lines = [_printable(line.strip()) for line in told.splitlines() if line.strip()]
    return "\n".join(map(_cut, lines[:_MOST_LINES]))


def _cut(line: str) -> str:
    """A line of bounded length: its begin and its end, where what was given often stands."""
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 100]} ... {line[-95:]}"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)


def _told(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came of, the last one raised first."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _file_behind(descriptor: int) -> Path | None:
    """The file that a descriptor writes to; None for terminals, pipes and files that are gone."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return path if path.is_file() else None
    except OSError:
        return None
