"""Timeline of a run: tokens, ends, errors and first tokens by time."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_bench import report
from serving_bench.outcome import INTERRUPTED, Outcome

_BIN_S = 0.1
_MOST_STEPS = 120
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class Timeline:
    """Timeline filled outcome by outcome; times count from `started`."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._tokens = array("d")  # by bins of _BIN_S
        self._begins = array("d")
        self._ends = array("d")
        self._errors = array("d")
        self._completed = array("d")
        self._firsts = array("d")
        self._ttfts = array("d")

    def add(self, outcome: Outcome, tokens: float) -> None:
        """Add an outcome; `tokens` are spread evenly over the reply's chunks."""
        begin, end = max(0.0, outcome.started - self._started), outcome.ended - self._started
        self._begins.append(begin)
        self._ends.append(end)
        if outcome.error is None:
            self._completed.append(end)
            if outcome.first_text is not None:
                self._firsts.append(outcome.first_text - self._started)
                self._ttfts.append(outcome.first_text - outcome.started)
        elif outcome.error != INTERRUPTED:
            self._errors.append(end)
        times = np.array(outcome.chunk_times) - self._started if outcome.chunk_times else np.array([end])
        places = np.maximum(times / _BIN_S, 0).astype(np.int64)
        first = int(places.min())
        counts = np.bincount(places - first) * (tokens / len(times))
        self._tokens.extend([0.0] * (first + len(counts) - len(self._tokens)))
        for place, count in enumerate(counts.tolist(), start=first):
            self._tokens[place] += count

    def report(self, elapsed_s: float) -> report.Timeline:
        """Timeline for the report, in at most 120 steps over `elapsed_s`."""
        step = next((each for each in _STEPS_S if elapsed_s / each <= _MOST_STEPS), elapsed_s / _MOST_STEPS)
        edges = np.arange(max(1, int(np.ceil(elapsed_s / step))) + 1) * step
        middles = (np.arange(len(self._tokens)) + 0.5) * _BIN_S
        tokens, _ = np.histogram(np.minimum(middles, edges[-1]), edges, weights=np.array(self._tokens))
        begins, ends, at = np.sort(self._begins), np.sort(self._ends), edges[:-1] + step / 2
        in_flight = np.searchsorted(begins, at, side="right") - np.searchsorted(ends, at, side="right")
        steps_of_firsts = np.minimum((np.array(self._firsts) / step).astype(np.int64), len(edges) - 2)
        ttfts = np.array(self._ttfts)
        return report.Timeline(
            step_s=step,
            tokens_per_s=[round(float(count) / step, 2) for count in tokens],
            requests_per_s=[round(count / step, 3) for count in _per_step(self._completed, edges)],
            errors=_per_step(self._errors, edges),
            in_flight=[int(count) for count in in_flight],
            ttft_p50=[
                float(np.median(ttfts[steps_of_firsts == number])) if np.any(steps_of_firsts == number) else None
                for number in range(len(edges) - 1)
            ],
        )


def _per_step(times: array[float], edges: NDArray[np.floating[Any]]) -> list[int]:
    counts, _ = np.histogram(np.minimum(np.array(times), edges[-1]), edges)
    return [int(count) for count in counts]
