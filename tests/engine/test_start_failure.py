"""Why engines did not start, read from what vLLM has really written when it was made to fail on a CPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.engine.start_failure import (
    FIXES,
    OWN_FIX,
    START_FAILURE_REASONS,
    ProcessLog,
    StartFailure,
    StartFailureReason,
    classify,
    errors_in,
    root_cause,
    shortened,
    start_failure,
)
from serving.errors import CheckpointError

LOGS = Path(__file__).parent / "failed_starts"
POINTER = RuntimeError(
    "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)


def cause_in(log: str) -> str:
    """What is found in a log when the replica itself knows nothing."""
    path = LOGS / log
    told, found_in = root_cause(POINTER, [(path, path.read_text())])
    assert found_in == path
    return told


@pytest.mark.parametrize(
    ("log", "reason", "message"),
    [
        (
            "kv_cache_memory.log",
            "out_of_memory",
            "ValueError: Available memory on node 0 (15.36/17.71 GiB) on kv cache",
        ),
        ("logits_processor.log", "missing_package", "ModuleNotFoundError: No module named 'nopackage'"),
        ("kv_cache_dtype.log", "unsupported_argument", "(is 'fp7')"),
        ("attention_backend.log", "unsupported_argument", "ValueError: Unknown attention backend: 'NOPE'."),
        ("max_model_len.log", "unsupported_argument", "User-specified max_model_len (999999) is greater than"),
        ("unknown_argument.log", "unsupported_argument", "unexpected keyword argument 'no_such_argument'"),
        ("empty_folder.log", "checkpoint", "Invalid repository ID or local directory specified: '/models/empty'."),
        ("model_type.log", "checkpoint", "has model type `nonesuch` but Transformers does not recognize"),
        ("no_folder.log", "checkpoint", "OSError: Repo id must be in the form"),
        ("no_weights.log", "checkpoint", "RuntimeError: Cannot find any model weights with `/models/noweights`"),
    ],
)
def test_what_vllm_wrote_has_its_cause_and_a_reason(log: str, reason: StartFailureReason, message: str) -> None:
    told = cause_in(log)
    assert classify(told) == reason
    assert message in shortened(told)
    assert len(shortened(told).splitlines()) <= 3


def test_the_last_error_says_what_failed_and_the_first_with_a_reason_why() -> None:
    assert cause_in("logits_processor.log").splitlines() == [
        "RuntimeError: Failed to load 0th LogitsProcessor plugin nopackage.module:Thing",
        "ModuleNotFoundError: No module named 'nopackage'",
    ]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.25 GiB.", "out_of_memory"),
        (
            "ValueError: Free memory on device cuda:0 (10.1/79.2 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 71.3 GiB).",
            "out_of_memory",
        ),
        (
            "ValueError: To serve at least one request with the models's max seq len (131072), (9.0 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (1.2 GiB).",
            "out_of_memory",
        ),
        ("ValueError: No available memory for the cache blocks.", "out_of_memory"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "driver"),
        ("RuntimeError: No CUDA GPUs are available", "driver"),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such file or directory", "driver"),
        ("ModuleNotFoundError: No module named 'flashinfer'", "missing_package"),
        ("ImportError: libnuma.so.1: cannot open shared object file", "missing_package"),
        ("SafetensorError: Error while deserializing header: InvalidHeaderDeserialization", "checkpoint"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "checkpoint"),
        ("KeyError: 'layers.0.mlp'", "other"),
    ],
)
def test_causes_of_gpus_and_hubs(told: str, reason: StartFailureReason) -> None:
    assert classify(told) == reason


def test_a_cause_in_the_process_itself_needs_no_log() -> None:
    try:
        try:
            raise ModuleNotFoundError("No module named 'flashinfer'")
        except ModuleNotFoundError as error:
            raise RuntimeError("This backend cannot be used.") from error
    except RuntimeError as error:
        told, path = root_cause(error, [])
    assert (told.splitlines()[0], path) == ("RuntimeError: This backend cannot be used.", None)
    assert classify(told) == "missing_package"


def test_a_process_that_was_killed_has_left_no_error() -> None:
    killed = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'E': -9}")
    told, _ = root_cause(killed, [])
    assert classify(told) == "out_of_memory"


def test_a_worker_says_more_than_the_engine_that_waits_for_it() -> None:
    text = (
        "(Worker_TP1 pid=7) Traceback (most recent call last):\n"
        '(Worker_TP1 pid=7)   File "worker.py", line 1, in load\n'
        "(EngineCore pid=5) Traceback (most recent call last):\n"
        "(Worker_TP1 pid=7) torch.OutOfMemoryError: CUDA out of memory.\n"
        '(EngineCore pid=5)   File "core.py", line 1, in start\n'
        "(EngineCore pid=5) Exception: WorkerProc initialization failed due to an exception in a background process. "
        "See stack trace for root cause.\n"
        "Exception ignored in: <function Engine.__del__>\n"
        "Traceback (most recent call last):\n"
        '  File "core.py", line 9, in __del__\n'
        "AttributeError: 'Engine' object has no attribute 'socket'\n"
    )
    assert root_cause(POINTER, [(Path("log"), text)])[0] == "torch.OutOfMemoryError: CUDA out of memory."


def test_an_error_of_something_else_is_no_part_of_a_chain() -> None:
    text = (
        "Traceback (most recent call last):\n  File 'a', line 1\nImportError: No module named 'optional'\n"
        "\nGoing on without it.\n"
        "Traceback (most recent call last):\n  File 'b', line 1\nKeyError: 'layer'\n"
    )
    # What follows a message's blank line may be more of it, so no more is asked than that chains stay apart.
    assert [chain[0].splitlines()[0] for chain in errors_in(text)][-1] == "KeyError: 'layer'"
    assert classify(errors_in(text)[-1][0]) == "other"


@pytest.mark.parametrize(
    "text",
    [
        "OSError: 401 for hf_abcdefghijklmnop at https://hub",
        "OSError: token=s3cr3t-abcdef was refused",
        "OSError: Authorization: Bearer s3cr3t-abcdef",
        "OSError: cannot reach https://user:s3cr3t-abcdef@hub/x",
        "ValidationError: 1 error [type=value_error, input_value=ArgsKwargs({'hf': 's3cr3t-abcdef'}), input_type=A]",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert "s3cr3t" not in shortened(text)
    assert "abcdefgh" not in shortened(text)


def test_messages_are_bounded() -> None:
    told = shortened("ValueError: " + "x" * 5000 + "\n\x1b[31mred\n" + "line\n" * 50)
    assert len(told.splitlines()) == 3
    assert len(told) < 1000
    assert "\x1b" not in told


def test_each_reason_has_a_fix() -> None:
    assert set(FIXES) == set(START_FAILURE_REASONS)


def test_failures_are_alike_where_only_figures_differ() -> None:
    def of(message: str) -> str:
        return StartFailure("other", message, "").kind

    assert of("free 7.21 GiB on pid 12") == of("free 8.03 GiB on pid 970")
    assert of("free 7.21 GiB") != of("no file")


def test_only_what_was_written_since_counts(tmp_path: Path) -> None:
    traceback = "Traceback (most recent call last):\n  File 'a', line 1\n{}\n"
    path = tmp_path / "worker.err"
    with path.open("w") as err:
        err.write(traceback.format("MemoryError: of an earlier start"))
        err.flush()
        log = ProcessLog([err.fileno()])
        assert start_failure(POINTER, log).reason == "other"
        err.write(traceback.format("ModuleNotFoundError: No module named 'flashinfer'"))
        err.flush()
        failure = start_failure(POINTER, log, " on node 10.0.0.7")
    assert failure.reason == "missing_package"
    assert failure.message == "ModuleNotFoundError: No module named 'flashinfer'"
    assert (failure.fix, failure.log) == (FIXES["missing_package"], f"{path} on node 10.0.0.7")


def test_output_that_is_no_file_has_no_path() -> None:
    read, write = os.pipe()
    try:
        log = ProcessLog([write, 10_000])
        assert (log.path, list(log.written())) == (None, [])
    finally:
        os.close(read)
        os.close(write)


def test_our_own_errors_have_their_reason_by_their_class() -> None:
    failure = start_failure(CheckpointError("the folder is empty"), ProcessLog())
    assert (failure.reason, failure.message) == ("checkpoint", "CheckpointError: the folder is empty")
    assert failure.fix == OWN_FIX
