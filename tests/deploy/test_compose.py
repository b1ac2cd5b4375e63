"""deploy/compose: valid by the Compose specification, and everything that it names is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import serving
from serving.settings.loading.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose"
FILE = COMPOSE / "compose.yaml"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def example() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_is_what_the_compose_specification_says() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_a_typo_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("stop_grace_period", "stop_grace_periods"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "stop_grace_periods" in done.stdout


def test_every_service_restarts_is_checked_and_pinned() -> None:
    for name, service in compose()["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert re.search(r":(\$\{SERVING_VERSION:-)?v?\d+\.\d+\.\d+", service["image"]), name
        assert "latest" not in service["image"], name


def test_one_server_runs_in_each_profile_and_prometheus_finds_it() -> None:
    services = compose()["services"]
    by_profile = {profile: name for name, service in services.items() for profile in service.get("profiles", [])}
    assert by_profile == {"cpu": "serving", "gpu": "serving-gpu"}
    assert services["serving-gpu"]["networks"]["default"]["aliases"] == ["serving"]
    assert example()["COMPOSE_PROFILES"] == "cpu"
    (group,) = yaml.safe_load((ROOT / "grafana" / "targets.yaml").read_text())
    assert group["targets"] == ["serving:8000"]


def test_every_variable_is_in_the_example_with_its_default_and_none_is_left_over() -> None:
    used = dict(re.findall(r"\$\{(\w+)(?::-([^}]*))?", FILE.read_text()))
    variables = example()
    assert used.keys() | {"COMPOSE_PROFILES"} == variables.keys()
    for name, default in used.items():
        assert variables[name] == default, name
    assert variables["SERVING_VERSION"] == serving.__version__
    assert variables["REDIS_PASSWORD"] == variables["GRAFANA_PASSWORD"] == "", "a default password is none"


def test_everything_mounted_exists() -> None:
    declared = compose()["volumes"].keys()
    named = set()
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", []):
            source, _, _ = volume.partition(":")
            if source.startswith("."):
                assert (COMPOSE / source).is_dir(), (name, volume)
                assert volume.endswith(":ro"), volume
            else:
                named.add(source)
    assert named == declared


def test_only_what_is_for_others_is_published_and_that_on_loopback() -> None:
    ports = {name: service.get("ports", []) for name, service in compose()["services"].items()}
    assert ports.pop("redis") == []
    for name, (port,) in ports.items():
        assert port.startswith(("127.0.0.1:", "${SERVING_BIND:-127.0.0.1}:")), name


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_settings_load(profile: str) -> None:
    environ = {"SERVING_REDIS__URL": "redis://:secret@redis:6379/0"}
    settings = load_settings(config=COMPOSE / "config" / f"{profile}.yaml", overrides={}, environ=environ)
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    service = compose()["services"]["serving" if profile == "cpu" else "serving-gpu"]
    assert service["environment"]["SERVING_CONFIG"] == f"/etc/gpt-oss-serving/{profile}.yaml"
    minutes = int(service["stop_grace_period"].removesuffix("m"))
    assert minutes * 60 > settings.http.longest_answer_s


def test_the_image_is_built_from_the_recipe() -> None:
    for name, target in (("serving", "cpu"), ("serving-gpu", "cuda")):
        build = compose()["services"][name]["build"]
        assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()
        assert build["target"] == target
        assert compose()["services"][name]["image"].endswith(f"-{target}")


def test_prometheus_reads_the_configuration_that_the_tests_of_dashboards_use() -> None:
    prometheus = compose()["services"]["prometheus"]
    (config,) = (argument for argument in prometheus["command"] if argument.startswith("--config.file="))
    folder = config.removeprefix("--config.file=").rpartition("/")[0]
    assert f"../../grafana:{folder}:ro" in prometheus["volumes"]
    assert (ROOT / "grafana" / "prometheus.yml").is_file()


def test_grafana_is_given_its_data_source_and_every_dashboard() -> None:
    provisioning = COMPOSE / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "gpt-oss-serving.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"../../grafana/dashboards:{folder}:ro" in compose()["services"]["grafana"]["volumes"]
    files = list((ROOT / "grafana" / "dashboards").glob("*.json"))
    assert len({json.loads(path.read_text())["uid"] for path in files}) == len(files) > 0


def test_what_is_built_below_tmp_can_be_loaded() -> None:
    # Docker mounts a tmpfs noexec unless told otherwise, and Triton loads a driver that it compiles.
    serving = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["x-serving"]
    assert [each for each in serving["tmpfs"] if "exec" not in each.partition(":")[2].split(",")] == []
