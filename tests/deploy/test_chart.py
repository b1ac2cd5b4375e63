"""What belongs together in a release fits together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml
from helm_python import Chart

import serving
from tests.deploy.conftest import CHART, REPOSITORY, SHARED, Render, Rendered
from tests.deploy.kuberay_rules import service_port


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    wanted = selector.get("matchLabels", {})
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "NotIn"
        if labels.get(rule["key"]) in rule["values"]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())


def labels_of(template: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = template["metadata"]["labels"]
    return labels


def containers(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def test_helm_finds_nothing_to_complain_of() -> None:
    report = helm_python.lint(CHART, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == serving.__version__


def test_names_and_objects_are_one_each(release: Rendered) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in release.objects]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for _, name in names)


def test_every_selector_takes_pods_and_the_right_ones(release: Rendered) -> None:
    pods = release.pods
    for service in release.all("Service"):
        taken = [
            name for name, pod in pods.items() if matches({"matchLabels": service["spec"]["selector"]}, labels_of(pod))
        ]
        assert len(taken) == 1, (service["metadata"]["name"], taken)
        (name,) = taken
        named = {port["name"] for container in containers(pods[name]) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    for budget in release.all("PodDisruptionBudget"):
        taken = [name for name, pod in pods.items() if matches(budget["spec"]["selector"], labels_of(pod))]
        assert len(taken) == 1, (budget["metadata"]["name"], taken)
    for deployment in release.all("Deployment"):
        assert matches(deployment["spec"]["selector"], labels_of(deployment["spec"]["template"]))
    for policy in release.all("NetworkPolicy"):
        assert any(matches(policy["spec"]["podSelector"], labels_of(pod)) for pod in pods.values())


def test_every_pod_spread_is_over_its_own_kind(release: Rendered) -> None:
    for template in release.ray_pods.values():
        for spread in template["spec"].get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"], labels_of(template))


def test_monitors_find_their_ports(render: Render) -> None:
    release = render(ci="everything-on")
    monitor = release.one("ServiceMonitor")["spec"]
    (service,) = (each for each in release.all("Service") if matches(monitor["selector"], each["metadata"]["labels"]))
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    pod_monitor = release.one("PodMonitor")["spec"]
    for template in release.ray_pods.values():
        assert matches(pod_monitor["selector"], labels_of(template))
        named = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {endpoint["port"] for endpoint in pod_monitor["podMetricsEndpoints"]} <= named


def test_metrics_have_one_target_however_many_pods_answer(render: Render) -> None:
    # Through each of several pods /metrics tells of the whole cluster; the head is always one.
    release = render(ci="120b-tp2-x4")
    service = release.one("Service", "gpt-oss-metrics")
    assert matches({"matchLabels": service["spec"]["selector"]}, labels_of(release.ray_pods["head"]))
    assert service["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_every_volume_is_mounted_and_every_mount_has_its_volume(release: Rendered) -> None:
    for name, template in release.pods.items():
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        mounted = {mount["name"] for container in containers(template) for mount in container.get("volumeMounts", [])}
        assert volumes == mounted, name


def test_every_config_map_and_secret_of_ours_is_used_and_every_one_named_exists_or_is_yours(release: Rendered) -> None:
    text = yaml.safe_dump(list(release.pods.values()))
    for item in [*release.all("ConfigMap"), *release.all("Secret")]:
        name = item["metadata"]["name"]
        if "dashboard" in name:
            # Grafana's sidecar reads those, by their label.
            assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
            continue
        assert re.search(rf"(name|secretName): {name}$", text, re.MULTILINE), name
        # Whole folders are mounted: files mounted one by one are never renewed.
        assert "subPath" not in text


def test_settings_reach_every_ray_node(release: Rendered) -> None:
    path = release.serve_config["applications"][0]["args"]["config"]
    for name, template in release.ray_pods.items():
        (container,) = template["spec"]["containers"]
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "settings")
        assert path == f"{mount['mountPath']}/settings.yaml", name


def test_no_image_is_latest_and_all_of_ours_are_one(release: Rendered) -> None:
    images = {container["image"] for template in release.pods.values() for container in containers(template)}
    assert all(re.search(r"(:(?!latest)[\w.-]+|@sha256:[0-9a-f]{64})$", image) for image in images), images
    ours = {image for image in images if "redis" not in image and "/pause:" not in image}
    assert len(ours) == 1 or sorted(image.rpartition("-")[2] for image in ours) == ["cpu", "cuda"]


def test_pods_without_gpus_run_the_cpu_image_where_it_is_named(render: Render) -> None:
    release = render({"image": {"repository": "r/gpt", "cpu": {"repository": "r/cpu"}}} | SHARED)
    images = {name: {each["image"] for each in containers(pod)} for name, pod in release.pods.items()}
    (job,) = (name for name in images if name.startswith("Job"))
    version = serving.__version__
    assert images.pop("engine-gpt-oss-20b") == {f"r/gpt:{version}-cuda"}
    assert images == {key: {f"r/cpu:{version}-cpu"} for key in ("head", "ingress", job, "Pod gpt-oss-smoke")}
    digest = "sha256:" + "0" * 64
    release = render({"image": {"repository": "r/gpt", "cpu": {"digest": digest}}})
    assert release.ray_pods["head"]["spec"]["containers"][0]["image"] == f"r/gpt@{digest}"


def test_only_engines_see_gpus(release: Rendered) -> None:
    for name, pod in release.pods.items():
        if name.startswith("Deployment"):
            continue  # Redis knows nothing of GPUs
        (container,) = pod["spec"]["containers"]
        hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
        asked = "nvidia.com/gpu" in container["resources"].get("limits", {})
        assert hidden is not asked, name


def test_pods_stay_on_the_architecture_of_the_image(release: Rendered) -> None:
    for name, pod in release.pods.items():
        if not name.startswith("Deployment"):
            assert pod["spec"]["nodeSelector"]["kubernetes.io/arch"] == "amd64", name


OUTWARD = {
    "extraEnv": [{"name": "TEAM", "value": "ai"}],
    "extraVolumes": [{"name": "notes", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "notes", "mountPath": "/notes"}],
    "extraContainers": [{"name": "shipper", "image": "fluent-bit:4.0"}],
    "proxy": {"url": "http://proxy.internal:3128", "around": [".corp"]},
    "caBundle": {"configMap": "corporate-ca"},
}


@pytest.mark.parametrize("shared", [True, False], ids=["job", "init-container"])
def test_what_leads_outward_reaches_every_container_that_runs_serving(render: Render, shared: bool) -> None:
    release = render(OUTWARD | (SHARED if shared else {}))
    seen = 0
    for name, pod in release.pods.items():
        if name.startswith("Pod"):
            continue  # the smoke test asks inside of the cluster alone
        volumes = {each["name"] for each in pod["spec"]["volumes"]}
        assert {"notes", "ca"} <= volumes, name
        for container in containers(pod):
            if container["name"] in ("shipper", "logs"):
                continue
            env = {each["name"]: each.get("value") for each in container["env"]}
            assert env["TEAM"] == "ai", name
            assert env["HTTPS_PROXY"] == env["https_proxy"] == "http://proxy.internal:3128"
            assert {"localhost", ".svc", ".corp", "gpt-oss"} <= set(str(env["NO_PROXY"]).split(","))
            assert env["SSL_CERT_FILE"] == env["REQUESTS_CA_BUNDLE"] == "/etc/gpt-oss-serving-ca/ca-bundle.crt"
            assert {"notes", "ca"} <= {each["name"] for each in container["volumeMounts"]}
            seen += 1
    assert seen == (5 if shared else 4)
    shippers = [each["name"] for pod in release.ray_pods.values() for each in pod["spec"]["containers"]]
    assert shippers.count("shipper") == 3
    ports = [port["port"] for rule in release.one("NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
    assert 3128 in ports


def test_a_claim_for_one_node_is_filled_by_the_engine_itself(render: Render) -> None:
    # A Job elsewhere would keep it from the engine, and bind it in its own zone.
    release = render()
    assert release.all("Job") == []
    _, init = release.ray_pods["engine-gpt-oss-20b"]["spec"]["initContainers"]
    assert (init["name"], init["command"][1:]) == ("fetch-model", ["fetch", "openai/gpt-oss-20b"])
    assert "fetch-model" in release.notes


@pytest.mark.parametrize(
    "changed",
    [
        {"hub": {"tokenSecret": "t"}},
        {"hub": {"endpoint": "https://hub.internal"}},
        {"engineWorkers": {"nodeSelector": {"a": "b"}}},
        {"engineWorkers": {"tolerations": []}},
        {"engineWorkers": {"affinity": {"nodeAffinity": {}}}},
        {"image": {"repository": "r", "pullSecrets": ["s"]}},
        {"image": {"repository": "r", "pullPolicy": "Always"}},
        {"podSecurityContext": {"runAsUser": 2000}},
        {"securityContext": {"privileged": False}},
        {"serviceAccount": {"name": "other"}},
        {"modelCache": {"kind": "existingClaim", "existingClaim": "c", "accessModes": ["ReadWriteMany"]}},
        {"prefetch": {"resources": {"limits": {"memory": "8Gi"}}}},
        {"extraEnv": [{"name": "A", "value": "b"}]},
        {"proxy": {"url": "http://proxy:3128"}},
        {"caBundle": {"secret": "ca"}},
    ],
    ids=str,
)
def test_no_upgrade_changes_a_job_under_its_name(render: Render, changed: dict[str, Any]) -> None:
    before, after = render(SHARED).one("Job"), render(SHARED | changed).one("Job")
    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


@pytest.mark.parametrize("ci", ["everything-on", "120b-tp2-x4", "incremental-upgrade"])
def test_rendered_twice_it_is_the_same(render: Render, ci: str) -> None:
    assert render(ci=ci).files == render(ci=ci).files


def test_the_service_is_reached_by_its_port_whatever_it_is(render: Render) -> None:
    release = render(
        {
            "service": {"port": 80},
            "ingress": {"enabled": True, "host": "llm.example.com"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        }
    )
    assert service_port(release.one("RayService")) == ("serve", 80)
    paths = release.one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert {path["backend"]["service"]["port"]["name"] for path in paths} == {"serve"}
    (backend,) = release.one("HTTPRoute")["spec"]["rules"][0]["backendRefs"]
    assert backend == {"name": "gpt-oss", "port": 80}
    (url,) = (
        each["value"] for each in release.one("Pod")["spec"]["containers"][0]["env"] if each["name"] == "BASE_URL"
    )
    assert url == "http://gpt-oss:80"
    assert "svc/gpt-oss 8000:80" in release.notes


@pytest.mark.parametrize(
    "values",
    [
        {"ingress": {"enabled": True, "host": "a.b"}},
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}},
        {"service": {"type": "LoadBalancer"}},
    ],
    ids=str,
)
def test_the_notes_say_when_the_network_policy_drops_what_was_exposed(render: Render, values: dict[str, Any]) -> None:
    assert "networkPolicy.allowFrom" in render(values).notes.partition("Note: the NetworkPolicy lets in")[2]
    opened: dict[str, Any] = {"networkPolicy": {"allowFrom": [{"namespaceSelector": {}}]}}
    assert "Note: the NetworkPolicy lets in" not in render(values | opened).notes


class TestDisruptions:
    def test_budgets_are_numbers_that_the_controller_can_count_with(self, release: Rendered) -> None:
        # Kubernetes, pkg/controller/disruption/disruption.go: for anything else it asks the owner for its scale.
        for budget in release.all("PodDisruptionBudget"):
            assert "maxUnavailable" not in budget["spec"]
            assert type(budget["spec"]["minAvailable"]) is int

    def test_every_budget_lets_one_go(self, release: Rendered) -> None:
        for budget in release.all("PodDisruptionBudget"):
            component = budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
            if component != "head":
                assert 0 < budget["spec"]["minAvailable"] < release.groups[component]["replicas"]

    def test_what_is_alone_has_no_budget(self, render: Render) -> None:
        assert render().all("PodDisruptionBudget") == []

    def test_the_only_engine_is_not_taken_unasked(self, release: Rendered) -> None:
        for name, pod in release.ray_pods.items():
            if name.startswith("engine"):
                annotations = pod["metadata"]["annotations"]
                assert annotations["karpenter.sh/do-not-disrupt"] == "true"
                assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"

    def test_the_head_stays_where_nothing_outlives_it(self, render: Render) -> None:
        def annotations(values: dict[str, Any]) -> dict[str, str]:
            found: dict[str, str] = render(values).ray_pods["head"]["metadata"].get("annotations", {})
            return found

        assert annotations({})["karpenter.sh/do-not-disrupt"] == "true"
        assert "karpenter.sh/do-not-disrupt" not in annotations({"redis": {"mode": "existing", "address": "r:6379"}})

    def test_a_users_annotation_wins(self, render: Render) -> None:
        values = {"engineWorkers": {"podAnnotations": {"karpenter.sh/do-not-disrupt": "false"}}}
        pod = render(values).ray_pods["engine-gpt-oss-20b"]
        assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "false"


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ({}, "None"),
        (SHARED, "NewCluster"),
        ({"modelCache": {"kind": "emptyDir"}}, "NewCluster"),
        ({"modelCache": {"oneNode": True}}, "NewCluster"),
        ({"upgrade": {"strategy": "None"}} | SHARED, "None"),
    ],
    ids=str,
)
def test_an_upgrade_that_could_never_finish_is_not_begun(render: Render, values: dict[str, Any], strategy: str) -> None:
    release = render(values)
    assert release.ray_service["upgradeStrategy"]["type"] == strategy
    told = "delete raycluster" in release.notes
    assert told is (strategy == "None" and "upgrade" not in values)


def test_long_names_that_begin_alike_stay_two(chart: Chart) -> None:
    values = {"image": {"repository": REPOSITORY}}
    names = {
        Rendered(chart.render(values, name=f"team-platform-production-eu-west-east-{end}", namespace="llm")).one(
            "RayService"
        )["metadata"]["name"]
        for end in ("1-abc", "2-abc")
    }
    assert len(names) == 2
    assert all(len(name) <= 40 for name in names)


def test_pods_may_do_nothing_that_they_need_not(release: Rendered) -> None:
    for name, template in release.pods.items():
        spec = template["spec"]
        # Ray's autoscaler alone speaks to Kubernetes.
        scales = name == "head" and release.cluster["enableInTreeAutoscaling"]
        assert spec["automountServiceAccountToken"] is scales, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.get("hostNetwork")
        for container in containers(template):
            capabilities = container["securityContext"].pop("capabilities")
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
            assert capabilities["drop"] == ["ALL"]
            # Memory that RDMA pins, for an engine that spans nodes.
            rdma = "rdma/hca" in container["resources"]["limits"]
            assert capabilities.get("add", []) == (["IPC_LOCK"] if rdma else [])
            assert container["resources"]["requests"].keys() - {"rdma/hca"} == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
    kinds = {item["kind"] for item in release.objects}
    assert kinds.isdisjoint({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})


def test_defaults_have_no_secret(render: Render) -> None:
    release = render()
    assert release.all("Secret") == []
    assert not re.search(r"(?i)password|sk-[a-z0-9]{8}|hf_[a-z0-9]{8}", yaml.safe_dump(release.objects))


def test_by_default_only_the_namespace_prometheus_and_the_operator_reach_the_api(render: Render) -> None:
    (policy,) = render().all("NetworkPolicy")
    peers = [
        peer
        for rule in policy["spec"]["ingress"]
        if any(port["port"] <= 8000 <= port.get("endPort", port["port"]) for port in rule["ports"])
        for peer in rule["from"]
    ]
    own = {"app.kubernetes.io/name": "gpt-oss-serving", "app.kubernetes.io/instance": "gpt-oss"}
    labels = [peer["podSelector"].get("matchLabels", {}) for peer in peers]
    assert [each.get("app.kubernetes.io/name") for each in labels if each != own] == [
        None,
        "prometheus",
        "kuberay-operator",
    ]
    assert peers[0] == {"podSelector": {}}, "without a namespaceSelector: this namespace"


def test_the_notes_name_the_next_three_commands(release: Rendered) -> None:
    commands = [line.strip() for line in release.notes.splitlines() if line.startswith("   ")]
    assert [command.split()[0] for command in commands] == ["kubectl", "helm", "kubectl", "curl"]
    assert "namespace" not in release.notes or "llm" in release.notes


def test_the_prefetch_job_and_who_waits_for_it_name_the_same(render: Render) -> None:
    release = render(ci="everything-on")
    (fetch,) = release.one("Job")["spec"]["template"]["spec"]["containers"]
    sources = set(fetch["command"][2:])
    waiting = {
        init["command"][-1]
        for template in release.ray_pods.values()
        for init in template["spec"].get("initContainers", [])
        if "--wait" in init["command"]
    }
    assert sources == waiting == {"openai/gpt-oss-120b@main", "openai/gpt-oss-20b"}


@pytest.mark.parametrize("ci", ["air-gapped", "cpu-demo"])
def test_what_needs_no_hub_asks_none(render: Render, ci: str) -> None:
    release = render(ci=ci)
    assert release.all("Job") == []
    begun = {init["name"] for pod in release.ray_pods.values() for init in pod["spec"].get("initContainers", [])}
    assert begun == {"logs"}


def test_what_processes_log_is_on_stdout_to_the_end_of_the_pod(release: Rendered) -> None:
    for pod in release.ray_pods.values():
        first, *_ = pod["spec"]["initContainers"]
        # Kubernetes, "Sidecar containers": started before the others, ended after them.
        assert (first["name"], first["restartPolicy"]) == ("logs", "Always")
        assert first["command"] == ["/opt/serving/bin/python", "-m", "serving.cluster.log_tail"]
        assert first["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp", "readOnly": True}]


def test_logs_may_stay_in_the_pod(render: Render) -> None:
    release = render({"logs": {"stdout": False}, "prefetch": {"enabled": False}})
    assert "initContainers" not in yaml.safe_dump(release.ray_pods)


def test_air_gapped_pods_reach_nothing_outside(render: Render) -> None:
    policy = render(ci="air-gapped").one("NetworkPolicy", "gpt-oss")
    for rule in policy["spec"]["egress"]:
        assert rule.get("to") or {port["port"] for port in rule["ports"]} == {53, 5353}


@pytest.mark.parametrize("values", [{}, {"dashboards": {"enabled": False}}])
def test_dashboards_come_along_unless_not_wanted(render: Render, values: dict[str, Any]) -> None:
    release = render(values)
    names = [path.stem for path in (CHART / "files" / "dashboards").glob("*.json")]
    maps = [item for item in release.all("ConfigMap") if "dashboard" in item["metadata"]["name"]]
    assert len(maps) == (len(names) if not values else 0)
    for item in maps:
        ((file, text),) = item["data"].items()
        stem = file.removeprefix("llm-gpt-oss-")
        ours, shipped = json.loads(text), json.loads((CHART / "files" / "dashboards" / stem).read_text())
        assert ours["panels"] == shipped["panels"]
        assert ours["uid"].endswith(shipped["uid"])


def test_dashboards_of_two_releases_live_side_by_side(chart: Chart) -> None:
    def dashboards(name: str, namespace: str) -> dict[str, dict[str, Any]]:
        files = chart.render({"image": {"repository": REPOSITORY}}, name=name, namespace=namespace)
        maps = [item for item in Rendered(files).all("ConfigMap") if "dashboard" in item["metadata"]["name"]]
        return {file: json.loads(text) for item in maps for file, text in item["data"].items()}

    ours, theirs, other = dashboards("a", "llm"), dashboards("a", "test"), dashboards("b", "llm")
    assert not ours.keys() & theirs.keys()
    for one, two in ((ours, theirs), (ours, other)):
        uids = [board["uid"] for board in (*one.values(), *two.values())]
        assert len(set(uids)) == len(uids)
    # Links lead to the other dashboards of the same release.
    for board in ours.values():
        assert {tag for link in board["links"] for tag in link["tags"]} == set(board["tags"])
    assert {tag for board in ours.values() for tag in board["tags"]}.isdisjoint(
        tag for board in theirs.values() for tag in board["tags"]
    )


def test_rules_come_along(render: Render) -> None:
    files = list((CHART / "files" / "rules").glob("*.y*ml"))
    rules = render(ci="everything-on").all("PrometheusRule")
    assert len(rules) == len(files)
    groups = [group["name"] for rule in rules for group in rule["spec"]["groups"]]
    assert sorted(groups) == sorted(
        group["name"] for path in files for group in yaml.safe_load(path.read_text())["groups"]
    )


def test_the_readme_says_what_each_example_is_for() -> None:
    page = (CHART / "README.md").read_text()
    section = page[page.index("## Examples") : page.index("## What changes how")]
    examples = {path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml")}
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == examples
