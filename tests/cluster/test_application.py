from __future__ import annotations

from pathlib import Path

import pytest
from ray.serve.config import AutoscalingConfig

from serving.cluster.application import application, engine_options
from serving.errors import SettingsError
from serving.settings import ModelSettings, ReplicaSettings


def model(**values: object) -> ModelSettings:
    return ModelSettings.model_validate({"source": "openai/gpt-oss-120b"} | values)


def test_one_node_gives_all_gpus_to_the_replica() -> None:
    options = engine_options("m", model(tensor_parallel_size=4, pipeline_parallel_size=2), 900, "cuda")
    assert options["ray_actor_options"] == {"num_cpus": 1, "num_gpus": 8}
    assert "placement_group_bundles" not in options


def test_across_nodes_a_placement_group_has_one_bundle_a_gpu() -> None:
    options = engine_options("m", model(tensor_parallel_size=8, pipeline_parallel_size=2, executor="ray"), 900, "cuda")
    bundles = options["placement_group_bundles"]
    assert [bundle["GPU"] for bundle in bundles] == [1] * 16
    # The replica itself sits in the first bundle and must leave its GPU to a worker.
    assert options["ray_actor_options"]["num_gpus"] == 0
    assert bundles[0]["CPU"] >= options["ray_actor_options"]["num_cpus"]


def test_a_machine_without_gpus_is_asked_for_a_share_of_a_cpu() -> None:
    options = engine_options("demo", ModelSettings(tensor_parallel_size=2), 900, "cpu")
    assert options["ray_actor_options"]["num_cpus"] < 1
    assert "num_gpus" not in options["ray_actor_options"]


def test_replicas_between_bounds_are_scaled_and_fixed_ones_are_not() -> None:
    fixed = engine_options("m", model(replicas=ReplicaSettings(min=3)), 900, "cuda")
    assert fixed["num_replicas"] == 3
    scaled = engine_options("m", model(replicas={"min": 1, "max": 4, "target_ongoing_requests": 9}), 900, "cuda")
    autoscaling = scaled["autoscaling_config"]
    assert isinstance(autoscaling, AutoscalingConfig)
    assert (autoscaling.min_replicas, autoscaling.max_replicas) == (1, 4)
    assert autoscaling.target_ongoing_requests == 9


def test_running_answers_may_finish_when_a_replica_goes() -> None:
    assert engine_options("m", model(), 1234, "cuda")["graceful_shutdown_timeout_s"] == 1234


def test_a_rayservice_builds_the_graph_from_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("open: true\nmodels: {demo: {source: demo}, other/name: {source: demo}}\ningress_replicas: 2\n")
    ingress = application({"config": str(file)})._bound_deployment
    assert ingress.name == "ingress"
    assert ingress.num_replicas == 2
    handles = ingress.init_args[1]
    assert {name: handle._bound_deployment.name for name, handle in handles.items()} == {
        "demo": "engine-demo",
        "other/name": "engine-other-name",
    }


def test_a_wrong_settings_file_says_where(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("prot: 1\n")
    with pytest.raises(SettingsError, match="prot"):
        application({"config": str(file)})


def test_a_cluster_serves_nobody_without_keys_by_mistake(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text("models: {demo: {source: demo}}\n")
    with pytest.raises(SettingsError, match=r"teams_file: is missing.*open: true"):
        application({"config": str(file)})
