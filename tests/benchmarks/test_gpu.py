"""The parts of `make bench-gpu` that need no GPU: the checkpoint, the script, the commands, the course and the page."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import measure, report, servers
from benchmarks.gpu.cells import FULL, QUICK, SMALL, cells
from benchmarks.gpu.checkpoint import config, write_checkpoint
from benchmarks.gpu.forced import NAME, Forced, Resuming, script, written
from benchmarks.gpu.measure import Bench, Findings
from benchmarks.gpu.rust_front_end import rewritten, write_wrapper
from benchmarks.gpu.servers import Command, Kind, Served, dummy
from serving.engine.accelerator import Accelerator
from serving.harmony.vocabulary import decode, encode_harmony
from serving_bench.machine import this_machine

HOPPER = Accelerator("cuda", "NVIDIA H100 80GB HBM3", (9, 0), 80 * 2**30, "580.95.05")
PROCESSOR = Accelerator("cpu", "x86_64")

ANSWERING = """
import http.server, json, sys
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *ignored): pass
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        def choice(delta, finish): return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        events = [choice({"content": "a"}, None), choice({"content": "b"}, "stop"), {"choices": [], "usage": usage}]
        text = "".join(f"data: {json.dumps(HEAD | each)}\\n\\n" for each in events) + "data: [DONE]\\n\\n"
        self.send_response(200); self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(text))); self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def served(folder: Path) -> Served:
    return dummy("gpt-oss-20b", folder, (8, 4), sequences=512, share=0.42, kv_cache=12_000_000_000)


def test_a_checkpoint_has_the_published_shape_and_a_tokenizer(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "made" / "up", "20b")
    written = json.loads((folder / "config.json").read_text())
    assert (written["num_hidden_layers"], written["num_local_experts"], written["hidden_size"]) == (24, 32, 2880)
    assert written["layer_types"][:2] == ["sliding_attention", "full_attention"]
    assert len(written["layer_types"]) == 24
    assert written["quantization_config"]["quant_method"] == "mxfp4"
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "BPE"
    assert (config("120b")["num_hidden_layers"], config("120b")["num_local_experts"]) == (36, 128)


def test_the_script_is_harmony() -> None:
    text = decode(script(10, 3))
    thought = "The quick brown fox jumps over the lazy dog."
    assert text == (
        f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>"
        "The quick brown<|return|>"
    )
    assert encode_harmony(text) == script(10, 3)


@pytest.mark.parametrize("count", [0, 1, 3, 10, 14, 16, 18, 20])
def test_a_continued_answer_is_found_in_the_script(count: int) -> None:
    asked = encode_harmony("<|start|>user<|message|>The quick brown<|end|><|start|>assistant")
    assert written([*asked, *script(10, 3)[:count]], script(10, 3)) == count


def test_the_script_goes_on_token_by_token_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two requests, the second of them an answer's continuation, and a grammar that rules out what comes next
    monkeypatch.setenv("BENCH_FORCED_REPLY", "10,3")
    torch = pytest.importorskip("torch")
    opened = encode_harmony("<|start|>assistant")
    prompts = [[5, 6, 7, *opened], [5, *opened, *script(10, 3)[:4]]]
    ids = torch.zeros(4, 64, dtype=torch.int64)
    for slot, prompt in enumerate(prompts):
        ids[slot, : len(prompt)] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts] + [0, 0])
    states = SimpleNamespace(
        device="cpu",
        max_num_reqs=4,
        all_token_ids=SimpleNamespace(gpu=ids),
        prompt_len=SimpleNamespace(gpu=lengths, np=lengths.numpy()),
    )
    made, resuming = Forced(None, states), Resuming(None, states)
    resuming.add_request(0, None)
    resuming.add_request(1, None)
    resuming.apply_staged_writes()
    # When the batch has the second before the first, two tokens further, and a row that only pads
    rows = SimpleNamespace(
        expanded_idx_mapping=torch.tensor([1, 0, -1]), pos=torch.tensor([len(prompts[1]) - 1, len(prompts[0]) + 1, 0])
    )
    # Then each row gets its place's token
    forced = made.apply(torch.zeros(3, 201_088), rows).argmax(1).tolist()
    assert forced[:2] == [script(10, 3)[0], script(10, 3)[2]]
    logits = torch.zeros(3, 201_088)
    logits[1, script(10, 3)[2]] = -torch.inf
    resumed = resuming.apply(logits, rows)
    assert resumed[0].argmax() == script(10, 3)[4]
    assert resumed[1].max() == 0


def test_every_server_gets_equal_engine_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "vllm-rs"
    binary.write_text("")
    binary.chmod(0o755)
    monkeypatch.setattr(servers, "_rust", lambda folder: write_wrapper(folder, binary))
    made = {kind: servers.command(kind, served(tmp_path), HOPPER, tmp_path, 1234) for kind in servers.KINDS}
    # Ours is told by a settings file
    settings = json.loads((tmp_path / "serving.json").read_text())
    assert settings["port"] == 1234
    model = settings["models"]["gpt-oss-20b"]
    assert (model["source"], model["max_num_seqs"]) == (str(tmp_path), 512)
    assert model["engine_args"]["logits_processors"] == [NAME]
    # And the others by flags, which are the same for all of them
    one, four, rust = (list(made[kind].words) for kind in ("python-1", "python-4", "rust"))
    assert one[1:5] == ["-m", "vllm.entrypoints.cli.main", "serve", str(tmp_path)]
    assert one[-2:] == ["--api-server-count", "1"]
    assert four[-2:] == ["--api-server-count", "4"]
    assert one[:-2] == four[:-2] == rust
    line = " ".join(rust)
    for expected in ("--load-format dummy", f"--logits-processors {NAME}", "--max-num-seqs 512", "--served-model-name"):
        assert expected in line
    assert "--model " not in line
    for each in made.values():
        assert each.environment["BENCH_FORCED_REPLY"] == "8,4"
        assert str(servers.ROOT) in each.environment["PYTHONPATH"].split(os.pathsep)
    assert made["rust"].environment["VLLM_USE_RUST_FRONTEND"] == "1"
    assert str(tmp_path) not in str(made["rust"])


def test_on_a_cpu_the_demo_answers_by_itself(tmp_path: Path) -> None:
    demo = Served("demo", str(tmp_path), {})
    words = servers.command("python-4", demo, PROCESSOR, tmp_path, 1234, "2")
    assert "+cpu" in words.words[2]
    assert "--logits-processors" not in words.words
    assert words.environment["OMP_NUM_THREADS"] == "2"
    servers.command("ours", demo, PROCESSOR, tmp_path, 1234)
    assert json.loads((tmp_path / "serving.json").read_text()) == {"models": {"demo": {}}, "port": 1234}


def test_the_rust_binary_is_handed_the_parsers_it_accepts(tmp_path: Path) -> None:
    # Given a binary without its mode, which says what it was called with
    binary = tmp_path / "vllm-rs"
    binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    folder = tmp_path / "run"
    folder.mkdir()
    # When it is called as vLLM calls it
    asked = json.dumps({"model_tag": "a b", "tool_call_parser": "openai", "reasoning_parser": "openai_gptoss"})
    wrapper = write_wrapper(folder, binary)
    said = subprocess.run(
        [wrapper, "frontend", "--listen-fd", "5", "--args-json", asked], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # Then all but the parsers is as it was
    assert said[:4] == ["frontend", "--listen-fd", "5", "--args-json"]
    assert json.loads(said[4]) == {"model_tag": "a b", "tool_call_parser": "auto", "reasoning_parser": "auto"}
    assert rewritten(["frontend"]) == ["frontend"]


def test_quick_fits_into_its_minutes() -> None:
    # Three servers beside ours, whose starts take a minute each, two of them at once
    measuring = sum(cell.lasts(2) for cell in cells(QUICK)) * 3
    assert measuring + 3 * 60 <= QUICK.minutes * 60 <= 9 * 60
    assert sum(cell.lasts(2) for cell in cells(SMALL)) < 90
    assert [cell.streams for cell in cells(FULL) if cell.kind == "chat"] == [1, 64, 256, 512]
    assert {cell.kind for cell in cells(FULL)} == {"chat", "short", "long", "shared"}


def bench(folder: Path, findings: Findings, seconds: float) -> Bench:
    few = [replace(cell, seconds=None, requests=8, rounds=2) for cell in cells(SMALL)[:2]]
    console = Console(file=io.StringIO())
    page = folder / "page.md"
    conditions = report.Conditions("the command", "now", this_machine(), HOPPER, "vllm 1", "a shape")
    deadline = time.monotonic() + seconds

    def changed() -> None:
        report.write(page, conditions, findings)

    return Bench(Served("m", "m", {}), HOPPER, few, folder, console, deadline, findings, changed)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small programs in place of all servers; the second Python server ends as it begins."""

    def command(
        kind: Kind, served: Served, accelerator: Accelerator, folder: Path, port: int, threads: object
    ) -> Command:
        broken = [sys.executable, "-c", "print('no room for the cache'); raise SystemExit(3)"]
        words = broken if kind == "python-4" else [sys.executable, "-c", ANSWERING, str(port)]
        return Command(words, {}, port, "/")

    monkeypatch.setattr(measure, "command", command)
    monkeypatch.setattr(measure, "openmp_threads", lambda running: None)


@pytest.mark.usefixtures("stand_ins")
def test_a_server_that_fails_is_told_and_the_rest_is_measured(tmp_path: Path) -> None:
    findings = Findings(apart=False)
    bench(tmp_path, findings, 120).run(["ours", "python-4", "python-1", "rust"])
    page = (tmp_path / "page.md").read_text()
    assert list(findings.commands) == ["ours", "python-1", "rust"]
    assert [len(found.comparisons) for _, found in findings.measured] == [1] * 4
    assert "NVIDIA H100 80GB HBM3, 80 GiB, driver 580.95.05" in page
    assert page.count("| ours / python-1 |") == page.count("| ours / rust |") == 2
    assert "vLLM, 4 API servers: it did not start: ended with status 3" in page
    assert "no room for the cache" in page
    assert len(json.loads((tmp_path / "page.json").read_text())) == 4


@pytest.mark.usefixtures("stand_ins")
def test_servers_apart_are_held_against_each_other_afterwards(tmp_path: Path) -> None:
    findings = Findings(apart=True)
    bench(tmp_path, findings, 120).run(["python-1", "rust"])
    page = (tmp_path / "page.md").read_text()
    assert page.count("| python-1 / rust |") == 2
    assert "One server was up at a time" in page


@pytest.mark.usefixtures("stand_ins")
def test_a_server_that_answers_nothing_is_blamed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(
        kind: Kind, served: Served, accelerator: Accelerator, folder: Path, port: int, threads: object
    ) -> Command:
        program = ANSWERING if kind == "rust" else ANSWERING.replace("self.wfile.write(text.encode())", "1 / 0")
        return Command([sys.executable, "-c", program, str(port)], {}, port, "/")

    monkeypatch.setattr(measure, "command", refusing)
    findings = Findings(apart=False)
    bench(tmp_path, findings, 120).run(["ours", "rust"])
    assert list(findings.failed) == ["ours"]
    assert "all 4 warm-up requests" in findings.failed["ours"] or "all 2 warm-up" in findings.failed["ours"]
    assert findings.measured == []


@pytest.mark.usefixtures("stand_ins")
def test_what_there_is_no_time_for_is_left_out_and_told(tmp_path: Path) -> None:
    findings = Findings(apart=False)
    bench(tmp_path, findings, 20).run(["ours", "rust"])
    assert findings.left_out == ["ours: no time was left to start it", "rust: no time was left to start it"]


@pytest.mark.parametrize(
    ("flags", "said"), [(["--servers", "ours,go"], "should be some of"), (["--streams", "0"], "1 or more")]
)
def test_flags_that_are_wrong_are_refused(flags: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(flags)
    assert said in capsys.readouterr().err


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "probe", lambda: PROCESSOR)
    assert program.main([]) == 1
    assert "no NVIDIA GPU" in capsys.readouterr().err


def test_when_nothing_is_measured_older_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Bench, kinds: Sequence[Kind]) -> None:
        self.changed()
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "run", interrupted)
    # It would adopt what other tests have started.
    monkeypatch.setattr(program, "nothing_left", contextlib.nullcontext)
    monkeypatch.setattr("signal.signal", lambda *ignored: None)
    older = tmp_path / "older.md"
    older.write_text("figures")
    assert program.main(["--small", "--output", str(older)]) == 130
    assert older.read_text() == "figures"
    assert "nothing was measured" in capsys.readouterr().out
