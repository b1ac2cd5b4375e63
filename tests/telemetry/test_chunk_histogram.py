from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from serving.telemetry.chunk_histogram import ChunkHistogram
from serving.telemetry.definitions import Definition


@given(st.lists(st.floats(min_value=0, max_value=1e4, allow_nan=False)))
def test_it_exposes_what_prometheus_own_histogram_does(values: list[float]) -> None:
    buckets = (0.001, 0.5, 2.0, 600.0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    observe = ChunkHistogram(Definition("gaps", "histogram", "Gaps.", ("model",), buckets), ours).bind("demo")
    reference = Histogram("gaps", "Gaps.", ["model"], registry=theirs, buckets=buckets).labels("demo")
    for value in (*values, *buckets):
        observe(value)
        reference.observe(value)
    lines = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == lines


def test_one_label_has_one_series() -> None:
    registry = CollectorRegistry()
    histogram = ChunkHistogram(Definition("gaps", "histogram", "Gaps.", ("model",), (1.0,)), registry)
    histogram.bind("demo")(0.5)
    histogram.bind("demo")(0.5)
    assert registry.get_sample_value("gaps_count", {"model": "demo"}) == 2
