"""An upgrade, rendered before and after: what each change of a value comes to, and that nothing immutable changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from helm_python import HelmError

from tests.deploy.conftest import SHARED, Render, Rendered

Comes = Literal["nothing", "beside", "in place", "new cluster", "refused"]

MODEL: dict[str, Any] = {"source": "openai/gpt-oss-20b"}
BASE: dict[str, Any] = SHARED | {"settings": {"models": {"m": MODEL}}}
SECOND = {"settings": {"models": {"m": MODEL, "n": MODEL}}}
FIRST = {"settings": {"models": {"a": MODEL, "m": MODEL}}}

CHANGES: list[tuple[dict[str, Any], Comes]] = [
    ({"commonLabels": {"a": "b"}}, "beside"),
    ({"service": {"annotations": {"a": "b"}}}, "beside"),
    ({"service": {"port": 80}}, "beside"),
    ({"service": {"type": "LoadBalancer"}}, "beside"),
    ({"ingress": {"enabled": True, "host": "a.b"}}, "beside"),
    ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}}, "beside"),
    ({"networkPolicy": {"enabled": False}}, "beside"),
    ({"podDisruptionBudgets": {"enabled": False}}, "nothing"),
    ({"podDisruptionBudgets": {"head": True}}, "beside"),
    ({"monitoring": {"enabled": True}}, "beside"),
    ({"dashboards": {"enabled": False}}, "beside"),
    ({"smokeTest": {"model": "m"}}, "nothing"),
    ({"upgrade": {"strategy": "None"}}, "beside"),
    ({"upgrade": {"initializingTimeout": "45m"}}, "beside"),
    ({"prefetch": {"resources": {"limits": {"memory": "8Gi"}}}}, "new cluster"),
    ({"settings": {"ingress_replicas": 5, "models": {"m": MODEL}}}, "in place"),
    ({"settings": {"models": {"m": MODEL | {"replicas": {"min": 3}}}}}, "in place"),
    ({"settings": {"models": {"m": MODEL | {"max_num_seqs": 64}}}}, "in place"),
    ({"settings": {"models": {"m": MODEL | {"aliases": ["x"]}}}}, "in place"),
    (SECOND, "in place"),
    (FIRST, "new cluster"),
    ({"settings": {"models": {"other": MODEL}}}, "new cluster"),
    ({"settings": {"models": {"m": MODEL | {"tensor_parallel_size": 2}}}}, "new cluster"),
    ({"settings": {"models": {"m": {"source": "openai/gpt-oss-120b"}}}}, "new cluster"),
    ({"ingressWorkers": {"pods": 3}}, "in place"),
    ({"engineWorkers": {"sparePods": 1}}, "in place"),
    ({"ingressWorkers": {"resources": {"limits": {"memory": "9Gi"}}}}, "new cluster"),
    ({"engineWorkers": {"nodeSelector": {"a": "b"}}}, "new cluster"),
    ({"engineWorkers": {"podAnnotations": {"a": "b"}}}, "new cluster"),
    ({"head": {"nodeSelector": {"a": "b"}}}, "new cluster"),
    ({"image": {"tag": "0.2.0-cuda"}}, "new cluster"),
    ({"longestAnswerSeconds": 1800}, "new cluster"),
    ({"extraEnv": [{"name": "A", "value": "b"}]}, "new cluster"),
    ({"proxy": {"url": "http://p:3128"}}, "new cluster"),
    ({"caBundle": {"secret": "ca"}}, "new cluster"),
    ({"hub": {"tokenSecret": "t"}}, "new cluster"),
    ({"redis": {"mode": "existing", "address": "r:6379"}}, "new cluster"),
    ({"autoscaling": {"enabled": True}}, "new cluster"),
    ({"autoscaling": {"idleSeconds": 60}}, "nothing"),
    ({"teams": {"existingSecret": "t"}}, "new cluster"),
    ({"modelCache": {"accessModes": ["ReadWriteMany"], "storageClassName": "fast"}}, "new cluster"),
    ({"modelCache": {"accessModes": ["ReadWriteMany"], "size": "200Gi"}}, "beside"),
    ({"modelCache": {"kind": "emptyDir"}}, "new cluster"),
    ({"modelCache": {"accessModes": ["ReadWriteOnce"]}}, "new cluster"),
    ({"modelCache": {"accessModes": ["ReadWriteOnce"]}, "upgrade": {"strategy": "NewCluster"}}, "refused"),
    ({"modelCache": {"accessModes": ["ReadWriteOnce"]}, "engineWorkers": {"sparePods": 1}}, "refused"),
]

IMMUTABLE: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    # Kubernetes, pkg/apis/*/validation: what an update may not touch.
    "Job": lambda item: item["spec"]["template"],
    "PersistentVolumeClaim": lambda item: {key: item["spec"].get(key) for key in ("accessModes", "storageClassName")},
    "Deployment": lambda item: item["spec"]["selector"],
}


def compared(cluster: dict[str, Any], groups: set[str]) -> dict[str, Any]:
    """What KubeRay compares: numbers of workers aside, and groups appended at the end too.

    Source: ray-operator/controllers/ray/utils/util.go, GenerateHashWithoutReplicasAndWorkersToDelete, and
    rayservice_controller.go, isClusterSpecHashEqual.
    """
    cluster = copy.deepcopy(cluster)
    cluster["workerGroupSpecs"] = [each for each in cluster["workerGroupSpecs"] if each["groupName"] in groups]
    for group in cluster["workerGroupSpecs"]:
        for number in ("replicas", "minReplicas", "maxReplicas"):
            group.pop(number, None)
    return cluster


def comes_to(before: Rendered, after: Rendered) -> Comes:
    names = [group["groupName"] for group in before.cluster["workerGroupSpecs"]]
    appended = [group["groupName"] for group in after.cluster["workerGroupSpecs"]][: len(names)] == names
    if not appended or compared(before.cluster, set(names)) != compared(after.cluster, set(names)):
        return "new cluster"
    if before.cluster != after.cluster or before.serve_config != after.serve_config:
        return "in place"

    def others(release: Rendered) -> list[dict[str, Any]]:
        return [item for item in release.objects if "helm.sh/hook" not in item["metadata"].get("annotations", {})]

    return "nothing" if others(before) == others(after) else "beside"


@pytest.mark.parametrize(("change", "comes"), CHANGES, ids=str)
def test_a_change_comes_to_what_the_page_says(render: Render, change: dict[str, Any], comes: Comes) -> None:
    before = render(BASE)
    if comes == "refused":
        with pytest.raises(HelmError):
            render(BASE | change)
        return
    after = render(BASE | change)
    assert comes_to(before, after) == comes
    for kind, fixed in IMMUTABLE.items():
        old = {item["metadata"]["name"]: fixed(item) for item in before.all(kind)}
        new = {item["metadata"]["name"]: fixed(item) for item in after.all(kind)}
        assert [name for name in old.keys() & new.keys() if old[name] != new[name]] == [], kind
