from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helm_python import Chart

from grafana.generate import BUILDERS
from serving.cli import main
from serving.planning.gpus import GPUS
from serving.planning.report import ADMIN_SECRET
from serving.settings.loading.load import load_settings
from serving.tenancy.auth.team_directory import TeamDirectory

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "gpt-oss-serving"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        main(["plan", *arguments])
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    return int(status or 0), captured.out, captured.err


def test_it_says_memory_streams_bounds_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--model", "gpt-oss-120b", "--gpu", "h100", "--tensor-parallel-size", "2")
    assert status == 0
    for part in ("checkpoint", "60.8 GiB", "KV cache", "streams", "limited by", "memory bandwidth", "values.yaml"):
        assert part in out
    assert max(map(len, out.splitlines())) <= 140


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-oss-120b"])
def test_the_values_are_what_chart_and_settings_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, gpu: str, model: str
) -> None:
    for size in ("1", "2", "4", "8"):
        flags = ["--model", model, "--gpu", gpu, "--tensor-parallel-size", size, "--replicas", "2", "--kv-cache", "fp8"]
        status, out, _ = run(capsys, *flags, "--context", "16384", "--utilization", "0.9", "--values")
        if status == 0:
            break
    assert status == 0
    values = yaml.safe_load(out)
    with Chart.load(CHART) as chart:
        # The plan cannot know where the image lies.
        files = chart.render(values | {"image": {"repository": "r/gpt"}}, name="gpt-oss", namespace="llm")
    (service,) = yaml.safe_load_all(files["gpt-oss-serving/templates/rayservice.yaml"])
    (group,) = (
        each for each in service["spec"]["rayClusterConfig"]["workerGroupSpecs"] if "engine" in each["groupName"]
    )
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == int(size)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(values["settings"]))
    loaded = load_settings(config=settings, overrides={}, environ={}).models[model]
    assert (loaded.devices, loaded.replicas.min, loaded.max_model_len) == (int(size), 2, 16384)
    assert loaded.engine_args["kv_cache_dtype"] == "fp8"


def test_120b_on_two_h100_with_a_key_and_dashboards_takes_twelve_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ("--model", "gpt-oss-120b", "--gpu", "h100", "--tensor-parallel-size", "2")

    status, out, told = run(
        capsys, *flags, "--team", "search", "--image", "registry.example.com/gpt-oss-serving", "--values"
    )

    assert status == 0
    assert len(out.splitlines()) <= 12
    with Chart.load(CHART) as chart:
        values = yaml.safe_load(out)
        values["monitoring"] |= {"enabled": True}  # nothing says here that the cluster has a Prometheus operator
        files = chart.render(values, name="gpt-oss", namespace="llm")
    manifests = [text for name, text in files.items() if name.endswith(".yaml")]
    objects = [each for text in manifests for each in yaml.safe_load_all(text) if each]
    assert sum("-dashboard-" in each["metadata"]["name"] for each in objects) == len(BUILDERS)
    (monitor,) = (each for each in objects if each["kind"] == "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"]["name"] == ADMIN_SECRET
    (secret,) = (each for each in objects if each["metadata"]["name"] == "gpt-oss-teams")
    key = re.search(r"^  (sk-\S+)$", told, re.MULTILINE)
    assert key is not None
    assert key[1] not in out
    assert f"create secret generic {ADMIN_SECRET} --from-literal=admin-key=sk-" in told
    teams_file = tmp_path / "teams.yaml"
    teams_file.write_text(secret["stringData"]["teams.yaml"])
    found = TeamDirectory(teams_file, clock=lambda: 0.0).identify(key[1])
    assert found is not None
    assert found.team == "search"


def test_values_without_a_team_leave_keys_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, told = run(capsys, "--gpu", "h100", "--values")
    assert {"teams", "admin", "monitoring", "image"}.isdisjoint(yaml.safe_load(out))
    assert told == ""


def test_what_does_not_fit_ends_with_status_1_and_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = run(capsys, "--model", "gpt-oss-120b", "--gpu", "l40s")
    assert status == 1
    assert "does not fit: its weights" in out
    assert "set --tensor-parallel-size 2" in out
    assert "error: this does not fit" in error
    status, out, error = run(capsys, "--model", "gpt-oss-120b", "--gpu", "l40s", "--values")
    assert (status, out) == (1, "")
    assert "set --tensor-parallel-size 2" in error


def test_streams_that_must_wait_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--gpu", "l4", "--context", "131072", "--streams", "64")
    assert "of --streams 64 would wait" in out


def test_another_gpu_is_given_by_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--memory", "48", "--bandwidth", "0.9", "--tflops", "300")
    assert status == 0
    assert "your GPU" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpu", "h300"], "--gpu: `h300` is not known; there are h100"),
        ([], "--gpu: is missing"),
        (["--memory", "48"], "or give --bandwidth, --tflops"),
        (["--gpu", "h100", "--memory", "48"], "--gpu: is a GPU of the list; leave out"),
        (["--gpu", "h100", "--model", "gpt-4o"], "--model: `gpt-4o` is not known; there are gpt-oss-20b"),
        (["--gpu", "h100", "--kv-cache", "int4"], "--kv-cache: should be bf16 or fp8"),
    ],
)
def test_a_wrong_flag_is_told(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    status, _, error = run(capsys, *flags)
    assert status == 2
    assert message in error


def test_it_needs_neither_vllm_nor_ray() -> None:
    program = (
        "import sys; from serving.cli import main\n"
        "try: main(['plan', '--gpu', 'h100'])\n"
        "finally: assert not {'vllm', 'ray', 'torch'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_it_says_what_vllm_would_get_on_that_gpu_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    _, told, _ = run(capsys, "--model", "gpt-oss-120b", "--gpu", "b200")
    assert "vLLM would get on sm100, without a CUDA toolkit" in told
    assert "  max_num_seqs = 64  (settings: max_num_seqs)" in told
    assert "  moe_backend = triton  (no compiled kernel of FlashInfer's" in told
    _, told, _ = run(capsys, "--gpu", "mi300x")
    assert "vLLM would get" not in told, "nothing is known of AMD's kernels"
