"""The settings file, serveConfigV2 and the pods that a release has agree, with each other and with what reads them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import chart as chart_files
import pytest
import yaml
from helm_python import Chart
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serving.cluster.application import engine_options
from serving.cluster.names import APPLICATION, INGRESS, engine_deployment
from serving.cluster.run.environment import SIDE_PORTS, ray_environment
from serving.engine.device import Device
from serving.settings.loading.load import load_settings
from serving.settings.tree import Settings
from tests.deploy.conftest import CHART, CI, REPOSITORY, SHARED, Render, Rendered


def environment_of(template: dict[str, Any]) -> dict[str, str]:
    """A container's variables, with a stand-in for what comes from Secrets."""
    found: dict[str, str] = {}
    for each in template["spec"]["containers"][0]["env"]:
        value = each.get("value", "from-a-secret")
        for name, earlier in found.items():
            value = value.replace(f"$({name})", earlier)
        found[each["name"]] = value
    return found


def settings_of(release: Rendered, tmp_path: Path) -> Settings:
    """What serving makes of the release's file and variables."""
    file = tmp_path / "settings.yaml"
    file.write_text(release.settings_text)
    environ = {key: value for key, value in environment_of(release.ray_pods["head"]).items() if "SERVING" in key}
    return load_settings(config=file, overrides={}, environ=environ)


def deployments(release: Rendered) -> dict[str, dict[str, Any]]:
    (application,) = release.serve_config["applications"]
    return {each["name"]: each for each in application["deployments"]}


@pytest.mark.parametrize("ci", CI)
def test_serve_and_serving_accept_what_is_rendered(render: Render, ci: str, tmp_path: Path) -> None:
    release = render(ci=ci)
    ServeDeploySchema.model_validate(release.serve_config)
    settings = settings_of(release, tmp_path)
    (application,) = release.serve_config["applications"]
    assert application["name"] == APPLICATION
    assert deployments(release).keys() == {INGRESS, *map(engine_deployment, settings.models)}
    assert deployments(release)[INGRESS]["num_replicas"] == settings.ingress_replicas
    assert (release.serve_config["http_options"]["host"], release.serve_config["http_options"]["port"]) == (
        settings.host,
        settings.port,
    )
    assert settings.open == (settings.teams_file is None)


@pytest.mark.parametrize("ci", CI)
def test_engines_get_what_the_application_would_give_them_and_nodes_of_their_own(
    render: Render, ci: str, tmp_path: Path
) -> None:
    release = render(ci=ci)
    settings = settings_of(release, tmp_path)
    device: Device = "cpu" if ci == "cpu-demo" else "cuda"
    for name, model in settings.models.items():
        deployed = deployments(release)[engine_deployment(name)]
        ours = engine_options(name, model, settings.http.longest_answer_s, device)
        assert "num_replicas" not in deployed
        fixed = model.replicas.max in (None, model.replicas.min)
        assert ("autoscaling_config" in deployed) == fixed, "those between bounds are the application's to say"
        if fixed:
            assert AutoscalingConfig(**deployed["autoscaling_config"]) == ours["autoscaling_config"]
        actor = {key: value for key, value in deployed["ray_actor_options"].items() if key != "label_selector"}
        assert actor == ours["ray_actor_options"]
        assert deployed.get("placement_group_bundles") == ours.get("placement_group_bundles")
        selectors = deployed.get("placement_group_bundle_label_selector") or [
            deployed["ray_actor_options"]["label_selector"]
        ]
        # One group of nodes has that label, with the GPUs and pods that all replicas take.
        (selector,) = {tuple(each.items()) for each in selectors}
        (group,) = (each for each in release.groups.values() if tuple(each["labels"].items()) == selector)
        gpus = int(group["rayStartParams"]["num-gpus"])
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert gpus == limits.get("nvidia.com/gpu", 0)
        if device == "cuda":
            assert group["maxReplicas"] * gpus >= model.devices * (model.replicas.max or model.replicas.min)
            assert model.devices % gpus == 0
        else:
            assert gpus == 0
            assert group["maxReplicas"] >= model.replicas.min


def test_a_model_larger_than_a_node_is_spread(render: Render) -> None:
    group = render(ci="everything-on").groups["engine-gpt-oss-120b"]
    assert group["rayStartParams"]["num-gpus"] == "8"
    assert group["maxReplicas"] == 2 * (2 + 1), "two nodes a replica, two replicas and a spare"


@pytest.mark.parametrize("ci", CI)
def test_ray_gets_the_environment_that_serving_up_gives_it(render: Render, ci: str, tmp_path: Path) -> None:
    release = render(ci=ci)
    ours = ray_environment(settings_of(release, tmp_path), cores=16)
    # Of this machine, or derived from longestAnswerSeconds (see test_times_in_chart.py).
    own = {"RAY_SERVE_HAPROXY_BINARY_PATH", *SIDE_PORTS}
    for template in release.ray_pods.values():
        given = environment_of(template)
        assert ours.keys() - given.keys() <= own
        same = [name for name in ours if name not in own and not name.endswith("_S")]
        assert {name: given[name] for name in same} == {name: ours[name] for name in same}


def test_a_changed_setting_is_applied_in_place(render: Render) -> None:
    before, after = render(), render({"settings": {"http": {"max_messages": 10}}})
    assert before.cluster == after.cluster
    assert before.serve_config != after.serve_config
    (application,) = after.serve_config["applications"]
    assert after.settings_text.splitlines()[0] == f"# revision {application['args']['revision']}"


def test_more_replicas_restart_nothing(render: Render) -> None:
    def values(ingresses: int, engines: int) -> dict[str, Any]:
        model = {"source": "openai/gpt-oss-20b", "replicas": {"min": engines}}
        return {"settings": {"ingress_replicas": ingresses, "models": {"gpt-oss-20b": model}}} | SHARED

    before, after = render(values(2, 1)), render(values(4, 3))
    (old,), (new,) = before.serve_config["applications"], after.serve_config["applications"]
    assert old["args"] == new["args"], "Serve builds the application anew only for other args"
    ingress, engine = new["deployments"]
    assert (ingress["num_replicas"], engine["autoscaling_config"]["max_replicas"]) == (4, 3)
    # Serve builds it anew for another policy too (ray/serve/_private/deploy_utils.py, get_app_code_version).
    policies = [each["deployments"][1]["autoscaling_config"]["policy"] for each in (old, new)]
    assert policies[0] == policies[1]
    # KubeRay compares clusters without the numbers of workers.
    clusters = [copy.deepcopy(release.cluster) for release in (before, after)]
    for cluster in clusters:
        for group in cluster["workerGroupSpecs"]:
            for number in ("replicas", "minReplicas", "maxReplicas"):
                del group[number]
    assert clusters[0] == clusters[1]


def test_other_bounds_have_the_application_built_anew(render: Render) -> None:
    def revision(most: int) -> str:
        model = {"source": "openai/gpt-oss-20b", "replicas": {"min": 1, "max": most}}
        (application,) = render({"settings": {"models": {"gpt-oss-20b": model}}} | SHARED).serve_config["applications"]
        return str(application["args"]["revision"])

    assert revision(2) != revision(3)


def test_another_release_of_the_chart_is_no_new_cluster(render: Render, tmp_path: Path) -> None:
    copied = tmp_path / "chart"
    shutil.copytree(CHART, copied)
    metadata = yaml.safe_load((copied / "Chart.yaml").read_text()) | {"version": "9.9.9"}
    (copied / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    with Chart.load(copied) as other:
        files = other.render(
            {"commonLabels": {"a": "b"}, "image": {"repository": REPOSITORY}}, name="gpt-oss", namespace="llm"
        )
    assert Rendered(files).cluster == render().cluster


def test_new_ingresses_come_before_old_ones_go(render: Render) -> None:
    assert deployments(render())[INGRESS]["max_surge_percent"] == 100


@pytest.mark.parametrize(("spare", "replicas", "surge"), [(0, 1, 0), (1, 1, 100), (1, 4, 25), (2, 1, 100), (1, 3, 33)])
def test_engines_surge_into_spare_pods_alone(render: Render, spare: int, replicas: int, surge: int) -> None:
    model = {"source": "openai/gpt-oss-20b", "replicas": {"min": replicas}}
    release = render({"settings": {"models": {"m": model}}, "engineWorkers": {"sparePods": spare}} | SHARED)
    assert deployments(release)["engine-m"]["max_surge_percent"] == surge
    assert release.groups["engine-m"]["replicas"] == replicas + spare


def test_options_of_one_model_leave_the_others(render: Render) -> None:
    groups = render(ci="multi-model").groups
    selectors = {name: group["template"]["spec"]["nodeSelector"].get("gpu") for name, group in groups.items()}
    assert selectors == {"ingress": None, "engine-gpt-oss-120b": "h100", "engine-gpt-oss-20b": "l40s"}
    assert groups["engine-gpt-oss-120b"]["replicas"] == 2
    assert groups["engine-gpt-oss-20b"]["replicas"] == 5


def test_schema_and_readme_are_current() -> None:
    stale = [path.name for path, text in chart_files.wanted().items() if path.read_text() != text]
    assert stale == [], "run `make chart`"


def test_a_value_without_a_comment_would_be_found() -> None:
    with pytest.raises(ValueError, match=r"values.yaml:4: a.c has no comment"):
        chart_files.read_values('a:\n  # B.\n  b: ""\n  c: ""\n')
    with pytest.raises(ValueError, match="n: its default does not tell its schema"):
        chart_files.values_schema(chart_files.read_values("# N.\nn: []\n"))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, "/models/serving"),
        ({"modelCache": {"kind": "hostPath", "hostPath": "/var/lib/models"}}, "/models/serving"),
        ({"modelCache": {"kind": "existingClaim", "existingClaim": "m", "accessModes": ["ReadOnlyMany"]}}, None),
    ],
)
def test_what_engines_compile_is_kept_beside_the_checkpoints_where_that_may_be_written(
    render: Render, tmp_path: Path, values: dict[str, Any], kept: str | None
) -> None:
    assert settings_of(render(values), tmp_path).cache_dir == kept
