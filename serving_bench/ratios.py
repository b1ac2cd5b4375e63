"""Ratios of a target to a baseline: medians of rounds that ran in turns, with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from serving_bench import report
from serving_bench.collector import Collector
from serving_bench.cpu import CpuTime

Better = Literal["higher", "lower", "neither"]

METRICS: Mapping[str, Better] = {
    "tokens/s": "higher",
    "requests/s": "higher",
    "front-end CPU us/token": "lower",
    "all CPU us/token": "lower",
    "TTFT p50 s": "lower",
    "TTFT p90 s": "lower",
    "first final token p50 s": "lower",
    "ITL p50 s": "lower",
    "ITL p99 s": "lower",
    "TPOT p50 s": "lower",
    "E2E p50 s": "lower",
    "chunks/token": "neither",
    "errors": "lower",
}
"""What is compared, in the order it is shown."""

Round = dict[str, float]
"""One target's metrics in one round; what could not be had is missing."""

_RESAMPLES = 5_000


def round_metrics(collector: Collector, elapsed_s: float, cpu: CpuTime) -> Round:
    """Metrics of one round of one target."""
    tokens = collector.tokens
    values: dict[str, float | None] = {
        "tokens/s": tokens / elapsed_s if tokens is not None else None,
        "requests/s": collector.completed / elapsed_s,
        "TTFT p50 s": collector.ttft.quantile(0.5),
        "TTFT p90 s": collector.ttft.quantile(0.9),
        "first final token p50 s": collector.ttft_final.quantile(0.5),
        "ITL p50 s": collector.itl.quantile(0.5),
        "ITL p99 s": collector.itl.quantile(0.99),
        "TPOT p50 s": collector.tpot.quantile(0.5),
        "E2E p50 s": collector.e2e.quantile(0.5),
        "chunks/token": collector.chunks_per_token,
        "errors": float(collector.errors.total()),
    }
    if cpu and tokens:
        front_end = sum(role.seconds for role in cpu.values() if role.group == "front end")
        engine = sum(role.seconds for role in cpu.values() if role.group == "engine")
        values["front-end CPU us/token"] = front_end / tokens * 1e6
        values["all CPU us/token"] = (front_end + engine) / tokens * 1e6
    return {name: value for name, value in values.items() if value is not None}


def ratios(target: Sequence[Round], baseline: Sequence[Round]) -> Iterator[report.Ratio]:
    """Ratios of paired rounds: round i of one belongs to round i of the other.

    Metrics that no pair of rounds has are left out.
    """
    for metric, better in METRICS.items():
        pairs = [
            (one[metric], other[metric])
            for one, other in zip(target, baseline, strict=True)
            if metric in one and other.get(metric)
        ]
        if pairs:
            yield _ratio(metric, better, np.array(pairs))


def _ratio(metric: str, better: Better, pairs: np.typing.NDArray[np.float64]) -> report.Ratio:
    ours, theirs = pairs[:, 0], pairs[:, 1]
    quotients, differences = ours / theirs, ours - theirs
    low, high = _interval(quotients)
    difference_low, difference_high = _interval(differences)
    return report.Ratio(
        metric=metric,
        better=better,
        rounds=len(pairs),
        target=float(np.median(ours)),
        baseline=float(np.median(theirs)),
        ratio=float(np.median(quotients)),
        low=low,
        high=high,
        difference=float(np.median(differences)),
        difference_low=difference_low,
        difference_high=difference_high,
        per_round=[float(quotient) for quotient in quotients],
    )


def _interval(values: np.typing.NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the medians of resamples, the same for the same values."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(values, (_RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)
