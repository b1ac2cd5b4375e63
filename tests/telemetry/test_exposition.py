"""Several processes' metrics in one answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from serving.telemetry.exposition import Exposition, exposed, merge


def parsed(body: bytes, openmetrics: bool) -> dict[str, Any]:
    parse: Any = openmetrics_parser if openmetrics else text_parser
    families = list(parse.text_string_to_metric_families(body.decode()))
    by_name = {family.name: family for family in families}
    assert len(by_name) == len(families), "a family comes twice"
    return by_name


def process(value: float, label: str = "x", *, openmetrics: bool = False) -> bytes:
    registry = CollectorRegistry()
    Counter("requests", "What was asked", ["kind"], registry=registry).labels(label).inc(value)
    Gauge("depth", "With # HELP in its help\nand a new line", registry=registry).set(value)
    Histogram("seconds", "Time", ["model"], buckets=(1.0, 2.0), registry=registry).labels("own").observe(value)
    return exposed(registry, openmetrics=openmetrics)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_vllms_names_stay_as_they_are(openmetrics: bool) -> None:
    registry = CollectorRegistry()
    Counter("vllm:generation_tokens", "Tokens.", ["model_name"], registry=registry).labels("demo").inc(3)
    body = exposed(registry, openmetrics=openmetrics)
    assert b'\nvllm:generation_tokens_total{model_name="demo"} 3.0\n' in body


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_process_keeps_its_series_apart_in_one_family(openmetrics: bool) -> None:
    body = merge(
        [Exposition({"replica": name}, process(n, openmetrics=openmetrics)) for n, name in ((1, "a"), (2, "b"))],
        openmetrics=openmetrics,
    )
    families = parsed(body, openmetrics)
    assert {s.labels["replica"]: s.value for s in families["requests"].samples} == {"a": 1, "b": 2}
    assert {s.labels["replica"]: s.value for s in families["depth"].samples} == {"a": 1, "b": 2}
    assert families["seconds"].type == "histogram"
    assert families["depth"].documentation == "With # HELP in its help\nand a new line"
    assert not any("created" in family for family in families)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_process_that_did_not_answer_is_down(openmetrics: bool) -> None:
    body = merge(
        [
            Exposition({"deployment": "d", "replica": "a", "model": "m"}, process(1, openmetrics=openmetrics)),
            Exposition({"deployment": "d", "replica": "b"}, None),
        ],
        openmetrics=openmetrics,
    )
    ups = parsed(body, openmetrics)["serving_scrape_replica_up"].samples
    assert [(s.labels, s.value) for s in ups] == [
        ({"deployment": "d", "replica": "a"}, 1),
        ({"deployment": "d", "replica": "b"}, 0),
    ]


def test_a_label_that_a_series_has_is_not_given_twice() -> None:
    families = parsed(merge([Exposition({"model": "added"}, process(1))], openmetrics=False), False)
    assert {s.labels["model"] for s in families["seconds"].samples} == {"own"}
    assert families["requests"].samples[0].labels["model"] == "added"
    assert families["depth"].samples[0].labels == {"model": "added"}


@pytest.mark.parametrize("openmetrics", [False, True])
@given(value=st.text(), label=st.text())
def test_any_text_survives_as_a_label(openmetrics: bool, value: str, label: str) -> None:
    body = merge([Exposition({"added": value}, process(1, label, openmetrics=openmetrics))], openmetrics=openmetrics)
    sample = parsed(body, openmetrics)["requests"].samples[0]
    assert sample.labels == {"kind": label, "added": value}
