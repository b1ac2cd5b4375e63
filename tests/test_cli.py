from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import serving
from serving.cli import main
from serving.settings.loading.load import load_settings
from serving.settings.tree import Settings


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Cli:
    """The command line in this process, with an environment that has no variables of ours."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        captured = self._capsys.readouterr()
        code = stopped.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, captured.out, captured.err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("SERVING_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")
    return Cli(capsys)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings that `serving up` would have served; it ends with status 7. Nothing here may start Ray."""
    seen: list[Settings] = []
    module = types.ModuleType("serving.cluster.run.up")

    def up(settings: Settings) -> int:
        seen.append(settings)
        return 7

    module.__dict__.update(up=up, update=up)
    monkeypatch.setitem(sys.modules, "serving.cluster.run.up", module)
    return seen


def write(text: str, name: str = "serving.yaml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


class TestRoot:
    def test_version(self, cli: Cli) -> None:
        assert cli("--version") == (0, f"serving {serving.__version__}\n", "")

    @pytest.mark.parametrize("command", [[], ["up"], ["check"], ["config"], ["config", "schema"], ["config", "show"]])
    def test_help_is_there_for_every_command(self, cli: Cli, command: list[str]) -> None:
        status, out, err = cli(*command, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(" ".join(["Usage: serving", *command]))

    def test_help_teaches_by_examples(self, cli: Cli) -> None:
        assert "  serving up --model openai/gpt-oss-20b  " in cli("--help").out
        assert "\n    serving up --model openai/gpt-oss-120b --tensor-parallel-size 8" in cli("up", "--help").out

    @pytest.mark.parametrize("arguments", [["serv"], ["up", "--prot", "1"], ["up", "--port", "x"], ["check", "a", "b"]])
    def test_wrong_flags_are_the_users_mistake(self, cli: Cli, arguments: list[str]) -> None:
        status, out, err = cli(*arguments)
        assert (status, out) == (2, "")
        assert "Error: " in err

    def test_the_package_runs_as_the_command_does(self) -> None:
        for arguments in (["--version"], ["up", "--port", "x"]):
            command, package = (
                subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=60, check=False)
                for program in ([Path(sys.executable).with_name("serving")], [sys.executable, "-m", "serving"])
            )
            assert (package.returncode, package.stdout) == (command.returncode, command.stdout)
            assert package.stderr == command.stderr

    def test_the_command_starts_without_ray_or_vllm(self) -> None:
        code = "import sys, serving.cli as c; c.create_cli(); print({'ray', 'vllm', 'torch'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "set()\n"


class TestUp:
    def test_flags_reach_the_settings(self, cli: Cli, served: list[Settings]) -> None:
        script = write("{}", "a.jsonl")
        flags = f"--host ::1 --port 9 --engine scripted --script {script} --ray-address auto --model x/y"
        assert cli("up", *flags.split(), "--tensor-parallel-size", "2").status == 7
        (settings,) = served
        assert (settings.host, settings.port, settings.engine, settings.ray_address) == ("::1", 9, "scripted", "auto")
        assert settings.script == str(Path.cwd() / "a.jsonl")
        assert {name: (model.source, model.tensor_parallel_size) for name, model in settings.models.items()} == {
            "y": ("x/y", 2)
        }

    def test_flags_win_over_variables_over_the_file(
        self, cli: Cli, served: list[Settings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVING_PORT", "1002")
        monkeypatch.setenv("SERVING_HOST", "10.0.0.2")
        file = write("port: 1001\nhost: 10.0.0.1\nopen: true\ningress_replicas: 2\n")
        assert cli("up", "--config", file, "--port", "1003").status == 7
        assert (served[0].port, served[0].host, served[0].ingress_replicas) == (1003, "10.0.0.2", 2)

    def test_several_models(self, cli: Cli, served: list[Settings]) -> None:
        cli("up", "--model", "demo", "--model", "openai/gpt-oss-20b")
        assert list(served[0].models) == ["demo", "gpt-oss-20b"]

    def test_settings_that_are_wrong_start_nothing(self, cli: Cli, served: list[Settings]) -> None:
        status, out, err = cli("up", "--port", "0", "--host", "a b")
        assert (status, out, served) == (2, "", [])
        assert err.splitlines()[0] == "error: 2 settings are wrong"
        assert "  port: should be at least 1; got 0 (--port)" in err.splitlines()

    def test_arguments_that_vllm_would_refuse_start_nothing(self, cli: Cli, served: list[Settings]) -> None:
        file = write("models: {demo: {engine_args: {enforce_eagre: true}}}")
        status, _, err = cli("up", "--config", file)
        assert (status, served) == (2, [])
        assert "did you mean `enforce_eager`? (serving.yaml line 1)" in err

    def test_a_missing_vllm_is_told_with_what_to_install(
        self, cli: Cli, served: list[Settings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        status, _, err = cli("up")
        assert (status, served) == (2, [])
        assert "gpt-oss-serving[cpu]" in err
        assert cli("up", "--ray-address", "auto").status == 7, "a cluster elsewhere brings its own"


class TestCheck:
    FILE = """
host: "::1"
models:
  gpt-oss-120b:
    source: openai/gpt-oss-120b
    aliases: [big, best]
    tensor_parallel_size: 8
    pipeline_parallel_size: 2
    replicas: {min: 1, max: 3}
    engine_args: {enable_prefix_caching: true}
  mine: {source: ./mine}
"""

    def test_it_says_what_would_run_and_where_that_was_set(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_INGRESS_REPLICAS", "2")
        status, out, err = cli("check", write(self.FILE))
        assert (status, err) == (0, "")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        for line in (
            "address http://[::1]:8000/v1",
            "ingress 2 replicas",
            "model gpt-oss-120b",
            "source openai/gpt-oss-120b, from the Hugging Face hub or its cache",
            "aliases big, best",
            "replicas 1 to 3, aiming at a first token within 2.5 s",
            "a replica 16 devices (tensor 8 x pipeline 2), executor ray (auto)",
            "enable_prefix_caching = true (settings: engine_args)",
            "tensor_parallel_size = 8 (settings: tensor_parallel_size)",
            "pipeline_parallel_size = 1 (default)",
            f"source {Path.cwd() / 'mine'} (no such directory on this machine)",
            "host = '::1' (serving.yaml line 2)",
            "models.gpt-oss-120b.replicas.max = 3 (serving.yaml line 9)",
            "ingress_replicas = '2' (SERVING_INGRESS_REPLICAS)",
        ):
            assert line in lines
        assert sum("16 to 48" in line for line in lines) == 1
        assert sum(line.startswith("in all") and "17 to 49" in line for line in lines) == 1

    def test_without_a_file_it_checks_the_environment(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "demo, the embedded model" in cli("check").out
        monkeypatch.setenv("SERVING_CONFIG", write("port: 99\n"))
        assert "http://127.0.0.1:99/v1" in cli("check").out

    def test_it_names_every_mistake_with_its_fix(self, cli: Cli) -> None:
        status, out, err = cli("check", write("prot: 1\nmodels: {demo: {tensor_parallel_size: 3}}\n"))
        assert (status, out) == (2, "")
        assert err.splitlines() == [
            "error: 2 settings are wrong",
            "  prot: unknown setting; did you mean `port`? (serving.yaml line 1)",
            "  models.demo.tensor_parallel_size: demo has 4 attention heads to share evenly: use 1, 2, 4 "
            "(serving.yaml line 2)",
        ]

    def test_it_checks_engine_args_against_vllm(self, cli: Cli) -> None:
        text = "models: {demo: {engine_args: {gpu_memory_utilisation: 0.9, seed: x}}}"
        status, _, err = cli("check", write(text))
        assert status == 2
        assert "did you mean `gpu_memory_utilization`?" in err
        assert "models.demo.engine_args.seed: should be int; got 'x'" in err

    def test_it_says_so_when_engine_args_could_not_be_checked(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        assert "not checked" in cli("check", write("models: {demo: {engine_args: {x: 1}}}")).out
        assert "not checked" not in cli("check").out

    def test_it_checks_the_script_of_the_scripted_engine(self, cli: Cli) -> None:
        file = write("engine: scripted\nscript: a.jsonl\n")
        status, _, err = cli("check", file)
        assert status == 2
        assert "a.jsonl" in err
        write('{"completion": "<|channel|>final<|message|>Hi<|return|>"}\n', "a.jsonl")
        outcome = cli("check", file)
        assert outcome.status == 0
        assert "no device" in outcome.out


class TestConfig:
    def test_the_schema_has_every_setting_described_and_refuses_unknown_ones(self, cli: Cli) -> None:
        schema = json.loads(cli("config", "schema").out)
        objects = [schema, *schema["$defs"].values()]
        assert set(schema["properties"]) == set(Settings.model_fields)
        for each in objects:
            assert each["additionalProperties"] is False
            assert all(setting.get("description") for setting in each["properties"].values())

    def test_show_prints_a_settings_file_of_what_is_in_force(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_PORT", "1234")
        out = cli("config", "show", "--config", write("http: {keep_alive_s: 3}")).out
        assert yaml.safe_load(out)["port"] == 1234
        shown = load_settings(config=Path(write(out, "shown.yaml")), overrides={}, environ={})
        assert (shown.port, shown.http.keep_alive_s) == (1234, 3.0)
