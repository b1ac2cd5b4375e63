"""A wrong value is refused with its path and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from helm_python import HelmError

from tests.deploy.conftest import SHARED, Render

MODEL = {"source": "openai/gpt-oss-20b"}
INCREMENTAL: dict[str, Any] = SHARED | {
    "autoscaling": {"enabled": True},
    "upgrade": {"strategy": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imge": {}}, "'imge' not allowed"),
        ({"image": {"tagg": "1"}}, "'/image': additional properties 'tagg'"),
        ({"image": {"tag": "latest"}}, "image.tag: latest means something else every day"),
        ({"image": {"digest": "sha256:12"}}, "'/image/digest'"),
        ({"redis": {"mode": "trial", "trial": {"image": "redis:latest"}}}, "redis.trial.image: latest"),
        ({"profile": "gpu"}, "'/profile': value must be one of 'cuda', 'cpu'"),
        ({"longestAnswerSeconds": "15m"}, "'/longestAnswerSeconds': got string, want integer"),
        ({"longestAnswerSeconds": 0}, "'/longestAnswerSeconds'"),
        ({"head": {"resources": {"limits": {"memory": "8 GB"}}}}, "'/head/resources/limits/memory'"),
        (
            {"engineWorkers": {"perModel": {"m": {"gpus": 1}}}},
            "'/engineWorkers/perModel/m': additional properties 'gpus'",
        ),
        ({"engineWorkers": {"perModel": {"m": {}}}}, "engineWorkers.perModel.m: there is no model of this name"),
        ({"settings": {"ingress_replica": 2}}, "'/settings': additional properties 'ingress_replica'"),
        ({"settings": {"models": {"m": {"sorce": "x"}}}}, "'/settings/models/m': additional properties 'sorce'"),
        (
            {"settings": {"models": {"m": MODEL | {"dtype": "int4"}}}},
            "'/settings/models/m/dtype': value must be one of",
        ),
        ({"settings": {"host": "0.0.0.0"}}, "settings.host: remove it; the chart sets it"),
        ({"settings": {"teams_file": "/x"}}, "settings.teams_file: remove it and set teams.existingSecret"),
        ({"settings": {"open": True}}, "settings.open: remove it and set teams.open"),
        ({"settings": {"http": {"longest_answer_s": 5}}}, "set longestAnswerSeconds"),
        ({"settings": {"redis": {"url": "redis://:secret@r"}}}, "settings.redis.url: remove it, it would show"),
        ({"settings": {"models": {"a/b": MODEL, "a-b": MODEL}}}, "a-b and a/b are both called engine-a-b"),
        (
            {"settings": {"models": {"m": MODEL | {"tensor_parallel_size": 8}}}, "engineWorkers": {"gpusPerNode": 4}},
            "8 GPUs fit no node of engineWorkers.gpusPerNode 4; lower tensor_parallel_size or set executor: ray",
        ),
        ({"settings": {"models": {"m": MODEL | {"pipeline_parallel_size": 12}}}}, "12 GPUs do not fill nodes"),
        (
            {"settings": {"models": {"m": MODEL | {"pipeline_parallel_size": 16}}}, "profile": "cpu"},
            "16 devices fit no single pod of 8",
        ),
        ({"teams": {"open": False}}, "teams: nobody could use this; set teams.existingSecret or teams.file"),
        ({"teams": {"existingSecret": "a", "file": {"teams": {"t": {}}}}}, "teams.file: teams.existingSecret names"),
        ({"teams": {"file": {"teams": {"t": {"wieght": 2}}}}}, "'/teams/file/teams/t': additional properties 'wieght'"),
        ({"redis": {"mode": "existing"}}, "redis.address: give host:port"),
        ({"redis": {"mode": "existing", "address": "redis://r:6379"}}, "'/redis/address'"),
        ({"modelCache": {"kind": "existingClaim"}}, "modelCache.existingClaim: name your claim"),
        ({"modelCache": {"kind": "hostPath"}}, "modelCache.hostPath: name the directory"),
        ({"modelCache": {"kind": "hostPath", "hostPath": "models"}}, "'/modelCache/hostPath'"),
        ({"ingress": {"enabled": True}}, "ingress.host: give the host name"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name the Gateway"),
        (INCREMENTAL | {"upgrade": {"strategy": "NewClusterWithIncrementalUpgrade"}}, "upgrade.gatewayClassName: the"),
        (INCREMENTAL | {"autoscaling": {"enabled": False}}, "set autoscaling.enabled to true"),
        (
            INCREMENTAL | {"upgrade": {**INCREMENTAL["upgrade"], "stepSizePercent": 60}},
            "upgrade.stepSizePercent: 60 is more than upgrade.maxSurgePercent 50",
        ),
        (INCREMENTAL | {"ingress": {"enabled": True, "host": "a.b"}}, "ingress.enabled: with upgrade.strategy"),
        (
            INCREMENTAL | {"service": {"port": 80}},
            "clients come in by the Gateway gpt-oss-gateway, which KubeRay makes",
        ),
        (
            {"settings": {"models": {"m": MODEL | {"replicas": {"min": 2}}}}},
            "modelCache.accessModes: 2 engine pods share the model cache, and ReadWriteOnce lets one node mount it",
        ),
        ({"upgrade": {"strategy": "NewCluster"}}, "upgrade.strategy: NewCluster starts a second engine beside"),
        ({"upgrade": {"initializingTimeout": "soon"}}, "'/upgrade/initializingTimeout'"),
        ({"upgrade": {"unhealthySeconds": 5}}, "additional properties 'unhealthySeconds'"),
        ({"fullnameOverride": "7-models"}, "fullnameOverride: KubeRay wants a name that begins with a letter"),
        ({"smokeTest": {"model": "nobody"}}, "smokeTest.model: there is no model nobody"),
    ],
    ids=str,
)
def test_a_mistake_is_told(render: Render, values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as error:
        render(values)
    assert message in str(error.value)


def test_a_secret_in_the_wrong_place_is_not_repeated(render: Render) -> None:
    with pytest.raises(HelmError) as error:
        render({"settings": {"redis": {"url": "redis://:hunter2@r"}}})
    assert "hunter2" not in str(error.value)
