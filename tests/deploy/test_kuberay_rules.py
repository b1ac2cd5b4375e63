"""KubeRay takes every rendering, and keeps what the chart says in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.conftest import Render, Rendered
from tests.deploy.kuberay_rules import RULES, violations


def test_kuberay_takes_every_example(release: Rendered) -> None:
    assert violations(release.one("RayService")) == []


@pytest.mark.parametrize(
    "values",
    [
        {"redis": {"mode": "trial"}},
        {"redis": {"mode": "existing", "address": "redis:6379"}},
        {"redis": {"mode": "existing", "address": "redis:6379", "passwordSecret": "redis-auth"}},
        {"service": {"port": 80, "type": "LoadBalancer"}, "ingress": {"enabled": True, "host": "llm.example.com"}},
        {
            "autoscaling": {"enabled": True},
            "settings": {"models": {"m": {"source": "a/b", "replicas": {"max": 3}}}},
            "modelCache": {"kind": "emptyDir"},
        },
        {
            "autoscaling": {"enabled": True},
            "upgrade": {"strategy": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"},
            "modelCache": {"accessModes": ["ReadWriteMany"]},
        },
        {"profile": "cpu"},
    ],
    ids=lambda values: "-".join(values),
)
def test_kuberay_takes_what_users_change(render: Render, values: dict[str, Any]) -> None:
    assert violations(render(values).one("RayService")) == []


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(item: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = item
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        node[last] = value

    return change


def head_env(name: str) -> Callable[[dict[str, Any]], None]:
    def change(item: dict[str, Any]) -> None:
        head = item["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        head["env"].append({"name": name, "value": "1"})

    return change


CLUSTER = "spec.rayClusterConfig"
BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "name_is_a_short_dns_1035_label": put("metadata.name", "7-models"),
    "redis_is_named_once": head_env("REDIS_PASSWORD"),
    "redis_user_is_an_option": head_env("REDIS_USERNAME"),
    "resources_and_labels_are_said_in_one_place": put(f"{CLUSTER}.headGroupSpec.rayStartParams.labels", "a=b"),
    "replicas_have_bounds": put(f"{CLUSTER}.workerGroupSpecs.0.maxReplicas", 0),
    "autoscaler_v2_is_said_and_its_pods_never_restart": put(f"{CLUSTER}.autoscalerOptions.version", "v1"),
    "idle_time_of_a_group_needs_autoscaler_v2": lambda item: (
        put(f"{CLUSTER}.autoscalerOptions.version", "v1")(item),
        put(f"{CLUSTER}.workerGroupSpecs.0.idleTimeoutSeconds", 60)(item),
    )[0],
    "tokens_need_ray_2_52": put(f"{CLUSTER}.rayVersion", "2.51.0"),
    "head_service_has_no_name": put(f"{CLUSTER}.headGroupSpec.headService.metadata.name", "x"),
    "incremental_upgrade_has_what_it_needs": put(f"{CLUSTER}.enableInTreeAutoscaling", False),
    "initializing_timeout_is_a_duration": put("metadata.annotations", {"ray.io/initializing-timeout": "soon"}),
    "serve_service_has_the_ports_of_the_head": put(
        "spec.serveService.spec.ports", [{"name": "http", "port": 80}, {"name": "serve", "port": 80}]
    ),
    "incremental_upgrade_has_no_service_of_ours": put("spec.serveService.spec.type", "LoadBalancer"),
    "no_dead_fields": put("spec.serviceUnhealthySecondThreshold", 900),
}


@pytest.mark.parametrize("name", [each.name for each in RULES])
def test_each_rule_finds_its_mistake(render: Render, name: str) -> None:
    ci = "incremental-upgrade" if name.startswith("incremental") else "everything-on"
    item = copy.deepcopy(render(ci=ci).one("RayService"))
    assert violations(item) == []
    BROKEN[name](item)
    assert [text.partition(":")[0] for text in violations(item) if text.startswith(name)] != []
