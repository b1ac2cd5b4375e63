"""Every object is what Kubernetes, KubeRay and the Prometheus operator accept, with no field that they do not know."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBERNETES = "1.37"
CRDS = Path(__file__).resolve().parents[3] / "shared" / "crds"
GROUPS = {"ray.io", "monitoring.coreos.com"}
ELSEWHERE = {"gateway.networking.k8s.io", "inference.networking.k8s.io", "keda.sh"}

# What we use of gateway.networking.k8s.io/v1 HTTPRoute, whose definition is in no package.
DURATION = {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
HTTP_ROUTE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "gateway.networking.k8s.io/v1"},
        "kind": {"const": "HTTPRoute"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "parentRefs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {
                            key: {"type": "string"} for key in ("name", "namespace", "kind", "group", "sectionName")
                        },
                    },
                },
                "hostnames": {"type": "array", "items": {"type": "string"}},
                "rules": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "matches": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {
                                        "path": {
                                            "type": "object",
                                            "additionalProperties": False,
                                            "properties": {
                                                "type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                                                "value": {"type": "string", "pattern": "^/"},
                                            },
                                        }
                                    },
                                },
                            },
                            "timeouts": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": dict.fromkeys(("request", "backendRequest"), DURATION),
                            },
                            "backendRefs": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "group": {"type": "string"},
                                        "kind": {"type": "string"},
                                        "name": {"type": "string"},
                                        "port": {"type": "integer"},
                                    },
                                    # A Service has several ports, a pool one of its own.
                                    "anyOf": [{"required": ["port"]}, {"required": ["group", "kind"]}],
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

# inference.networking.k8s.io/v1: api/v1/inferencepool_types.go of kubernetes-sigs/gateway-api-inference-extension.
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
INFERENCE_POOL: dict[str, Any] = {
    "type": "object",
    "required": ["selector", "targetPorts", "endpointPickerRef"],
    "additionalProperties": False,
    "properties": {
        "selector": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
        "targetPorts": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {"type": "object", "additionalProperties": False, "properties": {"number": PORT}},
        },
        "endpointPickerRef": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                **{key: {"type": "string"} for key in ("group", "kind", "name")},
                "portNumber": PORT,
                "failureMode": {"enum": ["FailOpen", "FailClose"]},
            },
        },
    },
}

# What we use of keda.sh/v1alpha1 ScaledObject; KEDA takes metadata of triggers as strings alone.
SCALED_OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "additionalProperties": False,
    "properties": {
        "scaleTargetRef": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        **{
            key: {"type": "integer", "minimum": 0}
            for key in ("minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod")
        },
        "triggers": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["type", "metadata"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "prometheus"},
                    "metricType": {"enum": ["AverageValue", "Value"]},
                    "metadata": {
                        "type": "object",
                        "required": ["serverAddress", "query", "threshold"],
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
    },
}


def strict(schema: Any) -> Any:
    """An openAPIV3Schema as JSON schema that refuses what Kubernetes would silently drop."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {key: strict(item) for key, item in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema:
        result["properties"] = {name: strict(item) for name, item in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result


@cache
def crds() -> dict[tuple[str, str], dict[str, Any]]:
    """Strict schemas by apiVersion and kind."""
    found = {}
    for path in CRDS.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # The server knows metadata by itself.
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return found


needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason=f"needs the definitions of custom resources in {CRDS}")


def test_kubernetes_knows_every_field(release: Any) -> None:
    checked = 0
    for item in release.objects:
        if item["apiVersion"].partition("/")[0] in GROUPS | ELSEWHERE:
            continue
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
        checked += 1
    assert checked > 5


def test_a_pod_of_every_template_is_one_that_kubernetes_knows(release: Any) -> None:
    # A RayService's own definition says less about pods.
    for name, template in release.ray_pods.items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name} | template["metadata"],
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@needs_crds
def test_custom_resources_are_what_their_operators_define(release: Any) -> None:
    for item in release.objects:
        if item["apiVersion"].partition("/")[0] in GROUPS:
            jsonschema.Draft202012Validator(crds()[item["apiVersion"], item["kind"]]).validate(item)


@needs_crds
def test_a_field_that_an_operator_does_not_know_would_be_found(render: Any) -> None:
    item = render().one("RayService")
    item["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["restartPolicies"] = "Never"
    validator = jsonschema.Draft202012Validator(crds()["ray.io/v1", "RayService"])
    assert [list(error.absolute_path)[-1] for error in validator.iter_errors(item)] == ["spec"]


def test_routes_of_the_gateway_api(render: Any) -> None:
    for item in render(ci="everything-on").all("HTTPRoute"):
        jsonschema.Draft202012Validator(HTTP_ROUTE).validate(item)


def test_a_pool_of_the_inference_extension_and_what_keda_scales(render: Any) -> None:
    rendered = render(ci="everything-on")
    jsonschema.Draft202012Validator(INFERENCE_POOL).validate(rendered.one("InferencePool")["spec"])
    scaled = rendered.all("ScaledObject")
    assert scaled
    for item in scaled:
        jsonschema.Draft202012Validator(SCALED_OBJECT).validate(item["spec"])


@needs_crds
def test_kubernetes_can_scale_no_cluster_of_kuberay_as_it_scales_a_deployment() -> None:
    # Why KEDA is given nodes to hold and not engines: the day that this changes, it can have those.
    versions = yaml.safe_load((CRDS / "ray.io_rayservices.yaml").read_text())["spec"]["versions"]
    assert all("scale" not in version["subresources"] for version in versions)


def test_with_everything_on_every_kind_is_there(render: Any) -> None:
    kinds = {item["kind"] for item in render(ci="everything-on").objects}
    assert kinds >= {
        "ConfigMap",
        "Deployment",
        "HTTPRoute",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Pod",
        "PodDisruptionBudget",
        "PodMonitor",
        "RayService",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }
