"""KubeRay's rules for a RayService that its CRD's schema cannot show: what its controller refuses, and what it drops.

Each names the place in KubeRay's source, under ray-operator/, for the versions that the chart supports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

VERSIONS = ("1.6.2", "1.7.0")

_VALIDATION = "controllers/ray/utils/validation.go"
_SERVICE = "controllers/ray/common/service.go"
_TYPES = "apis/ray/v1/rayservice_types.go"
_LONGEST_NAME = 47
_DURATION = re.compile(r"[1-9][0-9]*|([0-9]+(\.[0-9]+)?(h|m|s|ms))+")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


Check = Callable[[dict[str, Any]], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    """A rule: `breaks(item)` gives a text for each violation in the RayService `item`."""

    name: str
    source: str
    breaks: Check


RULES: list[Rule] = []


def rule(
    source: str,
) -> Callable[[Callable[[dict[str, Any]], Iterator[str]]], Callable[[dict[str, Any]], Iterator[str]]]:
    """Add the decorated check to RULES."""

    def add(breaks: Check) -> Check:
        RULES.append(Rule(breaks.__name__, source, breaks))
        return breaks

    return add


def violations(item: dict[str, Any]) -> list[str]:
    """Every violation in a RayService, with the place in KubeRay's source that refuses or ignores it."""
    return [f"{each.name}: {text} ({each.source})" for each in RULES for text in each.breaks(item)]


def _cluster(item: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = item["spec"]["rayClusterConfig"]
    return config


def _groups(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [_cluster(item)["headGroupSpec"], *_cluster(item)["workerGroupSpecs"]]


def _head_env(item: dict[str, Any]) -> set[str]:
    return {each["name"] for each in _cluster(item)["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}


def _incremental(item: dict[str, Any]) -> bool:
    return bool(item["spec"]["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade")


def _autoscaling(item: dict[str, Any]) -> bool:
    return bool(_cluster(item).get("enableInTreeAutoscaling"))


@rule(f"{_VALIDATION}: 1.6.2:379,382, 1.7.0:633,636")
def name_is_a_short_dns_1035_label(item: dict[str, Any]) -> Iterator[str]:
    name = item["metadata"]["name"]
    if len(name) > _LONGEST_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"{name} should begin with a letter and have at most {_LONGEST_NAME} characters"


@rule(f"{_VALIDATION}: 1.6.2:165-176, 1.7.0:169-180")
def redis_is_named_once(item: dict[str, Any]) -> Iterator[str]:
    if "gcsFaultToleranceOptions" not in _cluster(item):
        if "RAY_REDIS_ADDRESS" in _head_env(item):
            yield "RAY_REDIS_ADDRESS turns fault tolerance on without gcsFaultToleranceOptions"
        return
    for variable in {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & _head_env(item):
        yield f"the head has {variable} beside gcsFaultToleranceOptions"
    if "redis-password" in _cluster(item)["headGroupSpec"]["rayStartParams"]:
        yield "the head has redis-password beside gcsFaultToleranceOptions"


@rule(f"{_VALIDATION}: 1.6.2:184, 1.7.0:192")
def redis_user_is_an_option(item: dict[str, Any]) -> Iterator[str]:
    if "REDIS_USERNAME" in _head_env(item) or "redis-username" in _cluster(item)["headGroupSpec"]["rayStartParams"]:
        yield "REDIS_USERNAME is gcsFaultToleranceOptions.redisUsername"


@rule(f"{_VALIDATION}: 1.6.2:60-75, 1.7.0:61-76")
def resources_and_labels_are_said_in_one_place(item: dict[str, Any]) -> Iterator[str]:
    for group in _groups(item):
        counted = {"num-cpus", "num-gpus", "memory", "resources"} & group["rayStartParams"].keys()
        if counted and group.get("resources"):
            yield f"{group.get('groupName', 'head')} has resources beside {', '.join(sorted(counted))}"
        if "labels" in group["rayStartParams"]:
            yield f"{group.get('groupName', 'head')} has labels in rayStartParams"
        for value in (group.get("labels") or {}).values():
            if not _LABEL_VALUE.fullmatch(value):
                yield f"{value} is not a label's value"


@rule(f"{_VALIDATION}: 1.6.2:124-136, 1.7.0:125-137")
def replicas_have_bounds(item: dict[str, Any]) -> Iterator[str]:
    for group in _cluster(item)["workerGroupSpecs"]:
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not _autoscaling(item) and (least is None or most is None):
            yield f"{group['groupName']} needs minReplicas and maxReplicas"
        if least is not None and most is not None and not 0 <= least <= most:
            yield f"{group['groupName']} has minReplicas {least}, maxReplicas {most}"


@rule(f"{_VALIDATION}: 1.6.2:201-222, 1.7.0:209-235; Ray 2.60 runs autoscaler v2 whatever KubeRay believes")
def autoscaler_v2_is_said_and_its_pods_never_restart(item: dict[str, Any]) -> Iterator[str]:
    if not _autoscaling(item):
        if "RAY_enable_autoscaler_v2" in _head_env(item):
            yield "RAY_enable_autoscaler_v2 without enableInTreeAutoscaling"
        return
    if _cluster(item).get("autoscalerOptions", {}).get("version") != "v2":
        yield "autoscalerOptions.version is not v2, so that KubeRay leaves restartPolicy: Always"
    if "RAY_enable_autoscaler_v2" in _head_env(item):
        yield "RAY_enable_autoscaler_v2 beside autoscalerOptions.version"
    for group in _groups(item):
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{group.get('groupName', 'head')} has a restartPolicy"


@rule(f"{_VALIDATION}: 1.6.2:731-750, 1.7.0:1006-1026")
def idle_time_of_a_group_needs_autoscaler_v2(item: dict[str, Any]) -> Iterator[str]:
    v2 = _cluster(item).get("autoscalerOptions", {}).get("version") == "v2"
    for group in _cluster(item)["workerGroupSpecs"]:
        if "idleTimeoutSeconds" in group and not v2:
            yield f"{group['groupName']} has idleTimeoutSeconds"


@rule(f"{_VALIDATION}: 1.6.2:251, 1.7.0:297")
def tokens_need_ray_2_52(item: dict[str, Any]) -> Iterator[str]:
    version = tuple(map(int, _cluster(item)["rayVersion"].split(".")))
    if _cluster(item).get("authOptions", {}).get("mode") == "token" and version < (2, 52, 0):
        yield f"rayVersion {version}"


@rule(f"{_VALIDATION}: 1.6.2:436, 1.7.0:690")
def head_service_has_no_name(item: dict[str, Any]) -> Iterator[str]:
    if (_cluster(item)["headGroupSpec"].get("headService") or {}).get("metadata", {}).get("name"):
        yield "headService.metadata.name is set"


@rule(f"{_VALIDATION}: 1.6.2:463-487, 1.7.0:717-746")
def incremental_upgrade_has_what_it_needs(item: dict[str, Any]) -> Iterator[str]:
    if not _incremental(item):
        return
    options = item["spec"]["upgradeStrategy"]["clusterUpgradeOptions"]
    if not _autoscaling(item):
        yield "Ray's autoscaler is required"
    if not 0 <= options["stepSizePercent"] <= options["maxSurgePercent"] <= 100:
        yield "stepSizePercent should be at most maxSurgePercent"
    if options["intervalSeconds"] <= 0 or not options["gatewayClassName"]:
        yield "intervalSeconds and gatewayClassName are required"


@rule(f"{_VALIDATION}: 1.6.2:423, 1.7.0:656-677")
def initializing_timeout_is_a_duration(item: dict[str, Any]) -> Iterator[str]:
    text = (item["metadata"].get("annotations") or {}).get("ray.io/initializing-timeout")
    if text is not None and not _DURATION.fullmatch(text):
        yield f"ray.io/initializing-timeout: {text}"


@rule(f"{_SERVICE}: 1.6.2 and 1.7.0:220-264; other ports of serveService are dropped")
def serve_service_has_the_ports_of_the_head(item: dict[str, Any]) -> Iterator[str]:
    head = _cluster(item)["headGroupSpec"]["template"]["spec"]["containers"][0]
    serving = {each["name"] for each in head["ports"] if each["name"] == "serve" or each["name"].startswith("serve-")}
    ours = {each["name"] for each in item["spec"]["serveService"]["spec"]["ports"]}
    if not serving:
        yield "the head has no port called serve"
    for name in ours - serving:
        yield f"the port {name} of serveService is dropped; the head's are {', '.join(sorted(serving))}"


@rule(f"{_SERVICE}: 1.6.2 and 1.7.0:233; serveService is ignored, and the Service is named after each cluster")
def incremental_upgrade_has_no_service_of_ours(item: dict[str, Any]) -> Iterator[str]:
    if _incremental(item) and "type" in item["spec"]["serveService"]["spec"]:
        kind = item["spec"]["serveService"]["spec"]["type"]
        if kind != "ClusterIP":
            yield f"the Service's type {kind} is ignored"


@rule(f"{_TYPES}: 1.6.2:93-97, 1.7.0:94-98")
def no_dead_fields(item: dict[str, Any]) -> Iterator[str]:
    for field in ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"):
        if field in item["spec"]:
            yield f"{field} is not used anymore"


def service_port(item: dict[str, Any]) -> tuple[str, int]:
    """Name and number of the port that the Service will have in the end."""
    (port,) = (each for each in item["spec"]["serveService"]["spec"]["ports"] if each["name"] == "serve")
    return port["name"], port["port"]
