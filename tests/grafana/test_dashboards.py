"""The dashboards are current, and fit to be read by someone in trouble."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import generate
from grafana.lint import dashboard_problems, expression_problems, queries
from serving.telemetry.definitions import DEFINITIONS

RULES = Path(generate.__file__).parent / "rules" / "recording.yaml"


def recorded() -> list[str]:
    return [rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("path", generate.files(), ids=lambda path: path.name)
def test_the_committed_files_are_what_the_builders_make(path: Path) -> None:
    assert path.read_text() == generate.files()[path], "run `make dashboards` and commit"


@pytest.mark.parametrize("name", generate.BUILDERS)
def test_a_dashboard_has_nothing_the_linter_finds(name: str) -> None:
    assert dashboard_problems(generate.built(name), recorded()) == []


def test_each_metric_of_ours_is_drawn_or_raises_an_alert() -> None:
    texts = [expr for name in generate.BUILDERS for _, expr in queries(generate.built(name))]
    texts += [path.read_text() for path in RULES.parent.glob("*.yaml")]
    assert [each.name for each in DEFINITIONS if not any(each.name in text for text in texts)] == []


def test_each_panel_that_the_documentation_names_exists() -> None:
    boards = {built["title"].removeprefix("gpt-oss / "): built for built in map(generate.built, generate.BUILDERS)}
    panels = {f"{title} / {panel['title']}" for title, board in boards.items() for panel in board["panels"]}
    page = (Path(generate.__file__).parents[1] / "docs" / "dashboards.md").read_text()
    named = re.findall(rf"`((?:{'|'.join(boards)}) / [^`]+)`", page)
    assert len(named) > 40
    assert [name for name in named if name not in panels] == []


def test_no_two_dashboards_have_one_uid() -> None:
    uids = [generate.built(name)["uid"] for name in generate.BUILDERS]
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize("name", generate.BUILDERS)
def test_panels_do_not_overlap_and_fill_the_width(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in generate.built(name)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("sum(rate(serving_nonsense_total[1m]))", "no metric serving_nonsense_total"),
        ('sum(rate(serving_requests_total{colour="red"}[1m]))', "no label colour"),
        ("rate(serving_requests_in_flight[1m])", "no counter"),
        ("sum(rate(vllm:generation_tokens[1m]))", "no metric vllm:generation_tokens"),
        ("avg(vllm:kv_cache_usage_perc)", "averages"),
        ("avg_over_time(vllm:kv_cache_usage_perc[5m])", "averages over scrapes"),
        ("rate(sum(serving_requests_total)[5m:1m])", "before any sum"),
        ("histogram_quantile(0.5, rate(serving_queue_time_seconds_bucket[1m]))", "sum by (le"),
        (
            "sum(histogram_quantile(0.5, sum by (le, model) (rate(serving_queue_time_seconds_bucket[1m]))))",
            "aggregates quantiles",
        ),
    ],
)
def test_the_linter_finds(expr: str, problem: str) -> None:
    assert any(problem in found for found in expression_problems(expr))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"description": "Requests."}, "what to do when it looks bad"),
        ({"fieldConfig": {"defaults": {}}}, "no unit"),
        ({"targets": [{"expr": "sum(rate(serving_requests_total[5m]))", "legendFormat": "x"}]}, "$__rate_interval"),
        ({"targets": [{"expr": "sum by (team) (serving_requests_queued)", "legendFormat": "x"}]}, "legend shows"),
        ({"targets": [{"expr": "sum(serving_requests_queued)", "legendFormat": ""}]}, "legend of its own"),
        ({"datasource": {"uid": "abc"}}, "data source variable"),
        ({"title": "Errors by kind"}, "comes twice"),
        (
            {
                "type": "stat",
                "fieldConfig": {"defaults": {"unit": "percentunit"}},
                "targets": [{"expr": "1 - sum(serving_engine_ready) / 0.005", "legendFormat": "left"}],
            },
            "has room for",
        ),
    ],
)
def test_the_linter_finds_in_a_panel(change: dict[str, Any], problem: str) -> None:
    dashboard = json.loads(json.dumps(generate.built("overview")))
    panel = next(panel for panel in dashboard["panels"] if panel["title"] == "Requests by API")
    panel.update(change)
    assert any(problem in found for found in dashboard_problems(dashboard, recorded()))
