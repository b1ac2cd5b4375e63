"""Rules and alerts: promtool's unit tests, and what promtool does not look at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.lint import expression_problems
from serving.harmony.recovery import RECOVERY_KINDS

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "grafana" / "rules").glob("*.yaml"))
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> list[dict[str, Any]]:
    return [
        rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]  # fmt: skip


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def unit_tests() -> list[dict[str, Any]]:
    return [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_rules_fire_when_they_should_and_not_otherwise(path: Path) -> None:
    done = subprocess.run(["promtool", "test", "rules", path.name], cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    config = ["promtool", "check", "config", "--lint=all", "--lint-fatal", str(ROOT / "grafana" / "prometheus.yml")]
    done = subprocess.run(config, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_is_tested_firing_and_not_firing(alert: dict[str, Any]) -> None:
    own = [
        (case, test)
        for test in unit_tests()
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert["alert"]
    ]
    assert any(case["exp_alerts"] for case, _ in own)
    # promtool wants exactly the alerts named: series of another label beside those that fire must stay silent.
    assert any(not case["exp_alerts"] or len(test["input_series"]) > len(case["exp_alerts"]) for case, test in own)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_names_its_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    annotations = alert["annotations"]
    assert annotations["summary"]
    assert len(annotations["description"]) > 40
    runbook = ROOT / annotations["runbook"]
    assert runbook.is_file()
    text = runbook.read_text()
    assert alert["alert"] in text.splitlines()[0]
    for part in ("**What it means.**", "**What to look at.**", "**What to do"):
        assert part in text, f"{runbook.name} does not say {part}"


def test_every_runbook_belongs_to_an_alert() -> None:
    named = {Path(alert["annotations"]["runbook"]).name for alert in alerts()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == named


def test_links_between_runbooks_lead_somewhere() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\((\w+\.md)\)", path.read_text()):
            assert (RUNBOOKS / link).is_file(), f"{path.name}: {link}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_uses_metrics_that_exist(rule: dict[str, Any]) -> None:
    recorded = [other["record"] for other in rules() if "record" in other]
    assert expression_problems(rule["expr"], recorded) == []


def test_the_runbook_of_recoveries_knows_every_kind() -> None:
    text = (RUNBOOKS / "RecoverySpike.md").read_text()
    assert [kind for kind in RECOVERY_KINDS if f"`{kind}`" not in text] == []
