from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig

from serving.cluster.application import application, engine_options, engine_settings, fingerprint
from serving.errors import SettingsError
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings


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


@pytest.mark.parametrize(
    ("replicas", "initial", "most"),
    [({"min": 3}, 3, 3), ({"min": 1, "max": 4, "target_ongoing_requests": 9}, 1, 4), ({"min": 0, "max": 2}, 0, 2)],
)
def test_replicas_are_the_policys_between_none_and_the_most(replicas: Any, initial: int, most: int) -> None:
    scaling = engine_options("m", model(replicas=replicas), 900, "cuda")["autoscaling_config"]
    assert isinstance(scaling, AutoscalingConfig)
    assert (scaling.min_replicas, scaling.initial_replicas, scaling.max_replicas) == (0, initial, most)
    assert scaling.target_ongoing_requests == replicas.get("target_ongoing_requests", 32)
    bounds = {} if most == initial else {"fewest": initial, "first_token_s": 2.5}
    requests = {"requests": True} if "target_ongoing_requests" in replicas else {}
    assert scaling.policy.policy_kwargs == {"model": "m"} | bounds | requests
    # The policy has delays of its own; these would hold back what an administrator asks for too.
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s, scaling.downscale_to_zero_delay_s) == (0, 0, None)


def test_how_a_model_comes_and_goes_restarts_no_engine() -> None:
    def version(**changes: Any) -> str:
        settings = Settings(models={"m": model(**changes)})
        return fingerprint(engine_settings(settings, "m"))

    plain = version()
    assert version(idle={"after_s": 60}, hold={"longest_s": 5}) == plain
    assert version(idle={"after_s": 60, "action": "sleep"}) != plain
    assert version(warm_up=["Hi!"]) != plain
    assert version(reasoning={"default_effort": "low"}) == plain
    assert version(warm_up=["Hi!"], reasoning={"default_effort": "low"}) != version(warm_up=["Hi!"])


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
