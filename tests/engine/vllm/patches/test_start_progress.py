"""vLLM's log lines here are those of a start on an H200."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engine.vllm.patches.start_progress import VARIABLE, Steps, graphs_in, report_steps, step_file, step_of


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ("Loading model from scratch...", "loading weights"),
        ("Starting to load model /root/ckpt...", "loading weights"),
        ("Model loading took 13.03 GiB memory and 6.360341 seconds", "weights loaded (14.0 GB in 6.4 s, 2.2 GB/s)"),
        ("Model loading took 0.1 GiB memory and 0 seconds", "weights loaded (0.1 GB in 0.0 s)"),
        ("[backbone] Starting torch.compile", "compiling"),
        ("[backbone] torch.compile took 18.94 s in total", "compiled (19 s)"),
        (
            "GPU KV cache size: 433,596 tokens, Maximum concurrency for 131,072 tokens per request: 6.5x",
            "KV cache of 433,596 tokens; compiling kernels",
        ),
        ("Graph capturing finished in 67 secs, took 1.06 GiB", "CUDA graphs captured (67 s, 1.06 GiB)"),
        ("Using FlashAttention version 3", None),
    ],
)
def test_what_people_wait_for_is_picked_from_vllms_log(message: str, step: str | None) -> None:
    assert step_of(message) == step


@pytest.mark.parametrize(
    ("done", "told"), [(0, "0 of 83"), (20, "0 of 83"), (21, "20 of 83"), (42, "41 of 83"), (83, "83 of 83")]
)
def test_graphs_are_counted_in_quarters(done: int, told: str) -> None:
    bar = "\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):  {}%|###  | {}/83 [00:01<00:02, 30.1it/s]"
    assert graphs_in(bar.format(0, 0) + bar.format(9, done)) == f"capturing CUDA graphs, {told}"


def test_output_without_a_bar_counts_nothing() -> None:
    assert graphs_in("INFO Capturing model for speculator...\n") is None


def test_each_step_is_told_once_and_the_bar_only_while_graphs_are_captured(tmp_path: Path) -> None:
    file, output = tmp_path / "steps", [""]
    steps = Steps(file, lambda: output)
    assert steps.new() == []
    file.write_text("loading weights\nloading weights\n")
    assert steps.new() == ["loading weights"]
    output[0] = "Capturing CUDA graphs (decode, FULL):  50%|#  | 18/35 [00:01<00:02]"
    assert steps.new() == ["capturing CUDA graphs, 17 of 35"]
    file.write_text("loading weights\nCUDA graphs captured (1 s, 1.0 GiB)\n")
    output[0] = "Capturing CUDA graphs (decode, FULL): 100%|###| 35/35 [00:02<00:00]"
    assert steps.new() == ["CUDA graphs captured (1 s, 1.0 GiB)"]


@pytest.fixture
def vllm_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("vllm")
    level, handlers, levels = logger.level, list(logger.handlers), [each.level for each in logger.handlers]
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers
    for handler, before in zip(handlers, levels, strict=True):
        handler.setLevel(before)


class Printed(logging.Handler):
    """What vLLM prints."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_in_vllms_processes_steps_go_to_the_file_and_no_more_is_printed(
    vllm_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = Printed()
    vllm_logger.handlers[:] = [printed]
    vllm_logger.setLevel(logging.WARNING)
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    with step_file() as path:
        report_steps()
        report_steps()  # vLLM loads plugins more than once
        logging.getLogger("vllm.v1.worker").info("Model loading took %s GiB memory and %.6f seconds", "13.03", 6.36)
        logging.getLogger("vllm.v1.worker").warning("careful")
        assert path.read_text() == "weights loaded (14.0 GB in 6.4 s, 2.2 GB/s)\n"
    assert printed.messages == ["careful"]
    assert VARIABLE not in os.environ


def test_elsewhere_nothing_changes(vllm_logger: logging.Logger) -> None:
    before = list(vllm_logger.handlers)
    with step_file():
        report_steps()
    assert vllm_logger.handlers == before
