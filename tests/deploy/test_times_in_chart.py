"""longestAnswerSeconds: everything that could cut an answer short is more patient than the answer is long."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import Render, Rendered


def values_of(release: Rendered, name: str) -> set[int]:
    """The variable's value in every Ray pod."""
    return {
        int(each["value"])
        for template in release.ray_pods.values()
        for each in template["spec"]["containers"][0]["env"]
        if each["name"] == name
    }


def pre_stops(release: Rendered) -> set[int]:
    workers = [template for name, template in release.ray_pods.items() if name != "head"]
    commands = [each["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] for each in workers]
    assert all(command[2] == "serving.cluster.node_drain" for command in commands)
    return {int(command[-1]) for command in commands}


@pytest.mark.parametrize("longest", [1, 900, 3600, 86400])
def test_all_times_are_in_order(render: Render, longest: int) -> None:
    release = render({"longestAnswerSeconds": longest})
    settings = yaml.safe_load(release.settings_text)
    deployments = release.serve_config["applications"][0]["deployments"]
    grace = {template["spec"]["terminationGracePeriodSeconds"] for template in release.ray_pods.values()}
    order = [
        {longest},
        {settings["http"]["longest_answer_s"]},
        # A replica that is retired finishes its answers,
        {each["graceful_shutdown_timeout_s"] for each in deployments},
        # HAProxy bears their silence, and an old HAProxy process lives on for them,
        values_of(release, "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"),
        values_of(release, "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"),
        values_of(release, "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"),
        # a pod that goes waits for its replicas,
        pre_stops(release),
        # Kubernetes waits for the hook,
        grace,
        # and the operator keeps the old cluster until its pods could have gone.
        {release.ray_service["rayClusterDeletionDelaySeconds"]},
    ]
    assert all(len(times) == 1 for times in order), order
    (single,) = zip(*order, strict=True)
    assert list(single) == sorted(single)
    answer, stop, hook, killed, deleted = single[2], single[5], single[6], single[7], single[8]
    assert longest == answer < stop < hook < killed < deleted


def test_what_stands_before_the_service_waits_too(render: Render) -> None:
    release = render(ci="everything-on")
    annotations = release.one("Ingress")["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 3600
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert annotations["cert-manager.io/cluster-issuer"] == "internal"
    (rule,) = release.one("HTTPRoute")["spec"]["rules"]
    assert int(rule["timeouts"]["request"].removesuffix("s")) > 3600


def test_the_hook_runs_what_there_is() -> None:
    assert (Path(__file__).parents[2] / "serving" / "cluster" / "node_drain.py").is_file()
