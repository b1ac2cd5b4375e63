"""Nodes that are held for engines, the pool for gateways, and what a query of KEDA's asks for."""

from __future__ import annotations

from typing import Any

import pytest
from helm_python import HelmError

from grafana.lint import expression_problems
from tests.deploy.conftest import SHARED, Render

SCALED: dict[str, Any] = SHARED | {
    "settings": {"models": {"m": {"source": "openai/gpt-oss-20b", "replicas": {"min": 1, "max": 4}}}},
    "autoscaling": {"enabled": True},
    "headroom": {"enabled": True, "prometheus": "http://prometheus:9090", "mostEngines": 2},
}


def test_a_held_node_is_one_that_an_engine_fits_and_may_take(render: Render) -> None:
    rendered = render(SCALED)
    (holder,) = (each for each in rendered.all("Deployment") if "headroom" in each["metadata"]["name"])
    held = holder["spec"]["template"]["spec"]
    engine = next(spec["spec"] for name, spec in rendered.ray_pods.items() if name.startswith("engine"))

    for key in ("nodeSelector", "tolerations"):
        assert held.get(key) == engine.get(key)
    wanted = engine["containers"][0]["resources"]
    assert held["containers"][0]["resources"] == wanted
    priority = rendered.one("PriorityClass")
    assert held["priorityClassName"] == priority["metadata"]["name"]
    assert priority["value"] < 0
    assert "replicas" not in holder["spec"], "KEDA's number would be undone by each upgrade"


def test_keda_asks_for_metrics_that_there_are_and_of_this_release_alone(render: Render) -> None:
    rendered = render(SCALED)
    (scaled,) = rendered.all("ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == 2
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    assert expression_problems(query) == []
    assert query.count('namespace="llm", release="gpt-oss", model="m"') == 2
    assert "> bool 2.5" in query


def test_held_pods_are_no_part_of_what_answers(render: Render) -> None:
    rendered = render(SCALED | {"inferencePool": {"enabled": True, "endpointPicker": "epp"}})
    (holder,) = (each for each in rendered.all("Deployment") if "headroom" in each["metadata"]["name"])
    labels = holder["spec"]["template"]["metadata"]["labels"]
    selectors = [rendered.one("InferencePool")["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in rendered.all("PodDisruptionBudget")]
    selectors += [each["spec"]["selector"] for each in rendered.all("Service")]
    assert [each for each in selectors if each.items() <= labels.items()] == []


def test_the_pool_takes_the_pods_that_answer_and_the_route_leads_to_it(render: Render) -> None:
    route = {"enabled": True, "parentRefs": [{"name": "public"}]}
    rendered = render({"inferencePool": {"enabled": True, "endpointPicker": "epp"}, "httpRoute": route})
    pool = rendered.one("InferencePool")
    labels = next(spec["metadata"]["labels"] for name, spec in rendered.ray_pods.items() if name.startswith("ingress"))
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (backend,) = rendered.one("HTTPRoute")["spec"]["rules"][0]["backendRefs"]
    assert (backend["kind"], backend["name"]) == ("InferencePool", pool["metadata"]["name"])


@pytest.mark.parametrize(
    ("gang", "labels"),
    [
        ({}, set()),
        ({"scheduler": "volcano", "queue": "llm"}, {("volcano.sh/queue-name", "llm")}),
        ({"scheduler": "kai-scheduler", "queue": "llm"}, {("kai.scheduler/queue", "llm")}),
        ({"scheduler": "scheduler-plugins"}, {("ray.io/gang-scheduling-enabled", "true")}),
        (
            {"scheduler": "yunikorn", "queue": "root.llm"},
            {
                ("ray.io/gang-scheduling-enabled", "true"),
                ("yunikorn.apache.org/app-id", "gpt-oss"),
                ("yunikorn.apache.org/queue", "root.llm"),
            },
        ),
    ],
)
def test_a_cluster_has_the_labels_that_kuberays_batch_scheduler_reads(
    render: Render, gang: dict[str, Any], labels: set[tuple[str, str]]
) -> None:
    plain = render({}).one("RayService")["metadata"]["labels"]
    assert (
        set(render({"gangScheduling": gang}).one("RayService")["metadata"]["labels"].items()) - set(plain.items())
        == labels
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (SCALED | {"headroom": {"enabled": True}}, "headroom.prometheus: KEDA asks Prometheus"),
        (SCALED | {"autoscaling": {"enabled": False}}, "headroom.enabled: it goes before engines that come and go"),
        ({"gangScheduling": {"queue": "llm"}}, "gangScheduling.queue: name the scheduler"),
        ({"gangScheduling": {"scheduler": "kai-scheduler"}}, "gangScheduling.queue: KubeRay places nothing"),
        ({"gangScheduling": {"scheduler": "kueue"}}, "'/gangScheduling/scheduler': value must be one of"),
        ({"inferencePool": {"enabled": True}}, "inferencePool.endpointPicker: a pool needs"),
    ],
)
def test_what_is_missing_is_named_with_the_fix(render: Render, values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError, match=message):
        render(values)
