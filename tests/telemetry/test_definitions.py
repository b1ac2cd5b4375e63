"""The table of metrics against the documentation and against what is exposed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry

from serving.telemetry.definitions import DEFINITIONS
from serving.telemetry.engine_metrics import engine_metrics
from serving.telemetry.metrics import REJECTION_REASONS, FailoverOutcome, FrameLoss, Metrics
from serving.telemetry.outcomes import OUTCOMES, SERVER_FAULTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def documented() -> dict[str, tuple[str, tuple[str, ...], str]]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}


def test_the_documentation_has_every_metric_and_no_other() -> None:
    assert documented() == {d.name: (d.kind, d.labels, d.help) for d in DEFINITIONS}


def test_the_documentation_names_every_value_of_closed_labels() -> None:
    text = DOCUMENT.read_text()
    values = {*OUTCOMES, *SERVER_FAULTS, *REJECTION_REASONS, *get_args(FailoverOutcome), *get_args(FrameLoss)}
    assert {value for value in values if f"`{value}`" not in text} == set()


def test_a_process_registers_what_the_table_says_and_nothing_else() -> None:
    registry = CollectorRegistry()
    Metrics(registry, ["demo"])
    collected = {family.name + ("_total" if family.type == "counter" else ""): family for family in registry.collect()}
    assert set(collected) == {d.name for d in DEFINITIONS if d.process == "ingress"}
    assert all(collected[d.name].documentation == d.help for d in DEFINITIONS if d.name in collected)


def test_an_engine_registers_what_the_table_says_and_no_bound_where_none_is_known() -> None:
    names = {d.name for d in DEFINITIONS if d.process == "engine"}
    assert {family.name for family in engine_metrics("demo", 2, 9000.0).collect()} == names
    assert {family.name for family in engine_metrics("demo", 0, None).collect()} == {"serving_engine_gpus"}


def test_names_carry_their_unit_and_times_reach_ten_minutes() -> None:
    for definition in DEFINITIONS:
        assert definition.name.startswith("serving_")
        assert definition.name.endswith("_total") == (definition.kind == "counter"), definition.name
        assert bool(definition.buckets) == (definition.kind == "histogram"), definition.name
        assert list(definition.buckets) == sorted(set(definition.buckets))
        if definition.kind == "histogram":
            assert definition.buckets[-1] >= 600
