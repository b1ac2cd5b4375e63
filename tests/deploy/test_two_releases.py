"""Two releases in one Prometheus: what the chart renders for each is put together and run by promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from grafana.lint import expression_problems
from grafana.queries import scoped
from tests.deploy.conftest import CHART, REPOSITORY, Rendered

VALUES = {
    "image": {"repository": REPOSITORY},
    "monitoring": {"enabled": True, "runbookBase": "https://git/docs/runbooks/"},
}
RELEASES = (("gpt-oss", "team-a"), ("gpt-oss", "team-b"), ("other", "team-a"))


@pytest.fixture(scope="session")
def rules(chart: Chart) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Groups of rules by release."""
    return {
        (name, namespace): [
            group
            for item in Rendered(chart.render(VALUES, name=name, namespace=namespace)).all("PrometheusRule")
            for group in item["spec"]["groups"]
        ]
        for name, namespace in RELEASES
    }


def run(folder: Path, groups: list[dict[str, Any]], tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    case = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}
    (folder / "case.yaml").write_text(yaml.safe_dump(case))
    return subprocess.run(["promtool", "test", "rules", "case.yaml"], cwd=folder, capture_output=True, text=True)


def together(rules: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All rules in one file; the operator keeps groups of equal names apart by file."""
    return [
        group | {"name": f"{namespace}-{name}-{number}"}
        for (name, namespace), groups in rules.items()
        for number, group in enumerate(groups)
    ]


def up(namespace: str, values: str) -> dict[str, str]:
    labels = f'namespace="{namespace}", release="gpt-oss", deployment="ingress", replica="r"'
    return {"series": f"serving_scrape_replica_up{{{labels}}}", "values": values}


@pytest.mark.needs("promtool")
def test_each_release_misses_its_own_metrics_and_counts_its_own_requests(
    rules: dict[tuple[str, str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    def requests(namespace: str, outcome: str, values: str) -> dict[str, str]:
        labels = f'namespace="{namespace}", release="gpt-oss", model="m", outcome="{outcome}"'
        return {"series": f"serving_requests_total{{{labels}}}", "values": values}

    def ratio(namespace: str, value: float) -> dict[str, Any]:
        labels = f'model:serving_fault_ratio:rate5m{{namespace="{namespace}", release="gpt-oss", model="m"}}'
        return {"labels": labels, "value": value}

    missing = {
        "exp_labels": {"severity": "page", "namespace": "team-a", "release": "gpt-oss"},
        "exp_annotations": {
            "summary": "No metrics of the service arrive",
            "description": "For five minutes Prometheus has got metrics of no replica at all. "
            "No other alert can fire until it does.",
            "runbook_url": "https://git/docs/runbooks/ScrapeMissing.md",
        },
    }
    done = run(
        tmp_path,
        together({key: value for key, value in rules.items() if key[0] == "gpt-oss"}),
        [
            {
                "interval": "1m",
                "input_series": [
                    up("team-a", "1x10 _x30"),
                    up("team-b", "1x40"),
                    requests("team-a", "ok", "0+60x40"),
                    requests("team-b", "ok", "0+30x40"),
                    requests("team-b", "internal_error", "0+30x40"),
                ],
                "alert_rule_test": [{"eval_time": "25m", "alertname": "ScrapeMissing", "exp_alerts": [missing]}],
                "promql_expr_test": [
                    {
                        "expr": "model:serving_fault_ratio:rate5m",
                        "eval_time": "20m",
                        "exp_samples": [ratio("team-a", 0), ratio("team-b", 0.5)],
                    }
                ],
            }
        ],
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_reads_another_release(rules: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    shipped = {
        rule.get("alert") or rule["record"]: rule["expr"]
        for path in (CHART / "files" / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    }
    recorded = [name for name in shipped if ":" in name]
    for (name, namespace), groups in rules.items():
        for rule in (rule for group in groups for rule in group["rules"]):
            expr = rule["expr"]
            assert expression_problems(expr, recorded) == []
            scope = f'namespace="{namespace}", release="{name}"'
            if not re.search(r"\b(kube|DCGM|probe)", expr):
                # The same as the dashboards' own way of it.
                assert expr == scoped(shipped[rule.get("alert") or rule["record"]], scope)
            for selector in re.findall(r"\b(?:kube\w+)\{(.*?)\}", expr):
                assert f'namespace="{namespace}"' in selector
                assert f'pod=~"{name}-.*"' in selector or f'persistentvolumeclaim=~"{name}-models.*"' in selector


def test_alerts_link_their_runbooks(rules: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    runbooks = {path.name for path in (CHART.parents[2] / "docs" / "runbooks").glob("*.md")}
    linked = {
        rule["annotations"]["runbook_url"].removeprefix("https://git/docs/runbooks/")
        for group in rules["gpt-oss", "team-a"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert linked == runbooks
