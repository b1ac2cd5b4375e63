"""No port is used that the NetworkPolicy does not let through, and between pods alone is the rest."""

from __future__ import annotations

from typing import Any

from ray.serve._private import constants

from tests.deploy.conftest import Render, Rendered

BETWEEN = {"app.kubernetes.io/name": "gpt-oss-serving", "app.kubernetes.io/instance": "gpt-oss"}


def ranges(rules: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(port["port"], port.get("endPort", port["port"])) for rule in rules for port in rule["ports"]]


def covers(rules: list[dict[str, Any]], low: int, high: int | None = None) -> bool:
    high = low if high is None else high
    return any(first <= low and high <= last for first, last in ranges(rules))


def between(release: Rendered, direction: str) -> list[dict[str, Any]]:
    """The rules for pods of the same release."""
    peers = {"ingress": "from", "egress": "to"}[direction]
    policy = release.one("NetworkPolicy", "gpt-oss")["spec"]
    return [
        rule
        for rule in policy[direction]
        if any(peer.get("podSelector", {}).get("matchLabels") == BETWEEN for peer in rule.get(peers, []))
    ]


def test_every_container_port_is_open_between_pods(release: Rendered) -> None:
    ports = {
        port["containerPort"]
        for template in release.ray_pods.values()
        for port in template["spec"]["containers"][0]["ports"]
    }
    assert ports >= {6379, 8000, 8080, 8265, 10001}
    for direction in ("ingress", "egress"):
        assert [port for port in ports if not covers(between(release, direction), port)] == []


def test_every_port_that_ray_is_told_to_take_is_open_between_pods(release: Rendered) -> None:
    groups = [release.cluster["headGroupSpec"], *release.cluster["workerGroupSpecs"]]
    for group in groups:
        told = {name: int(value) for name, value in group["rayStartParams"].items() if name.endswith("-port")}
        assert len(told) == 8
        for name, port in told.items():
            assert covers(between(release, "ingress"), port), name
        assert covers(between(release, "ingress"), told["min-worker-port"], told["max-worker-port"])
        # Processes of one pod must not take each other's ports.
        single = [port for name, port in told.items() if not name.endswith("worker-port")]
        assert len(set(single)) == len(single)
        assert not any(told["min-worker-port"] <= port <= told["max-worker-port"] for port in single)


def test_every_port_that_serve_takes_by_itself_is_open_between_pods(render: Render) -> None:
    rules = between(render(), "ingress")
    first, last = constants.RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT, constants.RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT
    assert covers(rules, first, last)
    assert covers(rules, constants.RAY_SERVE_HAPROXY_METRICS_PORT)
    assert covers(rules, constants.RAY_SERVE_HAPROXY_STATS_PORT)
    # Linux's default range for whoever asks for any port (net.ipv4.ip_local_port_range).
    assert covers(rules, 32768, 60999)


def test_others_get_no_further_than_api_metrics_and_the_operators_ports(release: Rendered) -> None:
    policy = release.one("NetworkPolicy", "gpt-oss")["spec"]
    others = [rule for rule in policy["ingress"] if rule.get("from") != [{"podSelector": {"matchLabels": BETWEEN}}]]
    assert others
    for rule in others:
        assert {port for first, last in ranges([rule]) for port in (first, last)} <= {8000, 8080, 8265, 52365}
        # Ray's dashboard and agents take commands: only the operator is let there.
        if covers([rule], 8265) or covers([rule], 52365):
            assert rule["from"] == [
                {
                    "namespaceSelector": {},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
                }
            ]


def test_redis_talks_to_this_release_alone(render: Render) -> None:
    policy = render(ci="everything-on").one("NetworkPolicy", "gpt-oss-redis")["spec"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert ranges([rule]) == [(6379, 6379)]
    assert rule["from"] == [{"podSelector": {"matchLabels": BETWEEN}}]


def test_a_redis_elsewhere_can_be_reached(render: Render) -> None:
    values = {"redis": {"mode": "existing", "address": "redis.example.com:6390"}, "hub": {"offline": True}}
    policy = render(values).one("NetworkPolicy", "gpt-oss")["spec"]
    assert covers([rule for rule in policy["egress"] if "to" not in rule], 6390)


def test_a_mirror_on_its_own_port_can_be_reached(render: Render) -> None:
    policy = render(ci="everything-on").one("NetworkPolicy", "gpt-oss")["spec"]
    assert covers([rule for rule in policy["egress"] if "to" not in rule], 8443)
