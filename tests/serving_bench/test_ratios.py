from __future__ import annotations

import pytest

from serving_bench.ratios import METRICS, Round, ratios


def one(metric: str, target: list[float], baseline: list[float]) -> tuple[list[Round], list[Round]]:
    return [{metric: value} for value in target], [{metric: value} for value in baseline]


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    (ratio,) = ratios(*one("tokens/s", [100, 220, 90], [100, 200, 100]))
    assert ratio.per_round == pytest.approx([1.0, 1.1, 0.9])
    assert ratio.ratio == pytest.approx(1.0)
    assert (ratio.target, ratio.baseline) == (100, 100)
    assert ratio.difference == pytest.approx(0.0)
    assert ratio.low <= 1.0 <= ratio.high
    assert (ratio.low, ratio.high) == pytest.approx((0.9, 1.1))


def test_rounds_that_agree_have_a_narrow_interval() -> None:
    (ratio,) = ratios(*one("tokens/s", [90.0] * 8, [100.0] * 8))
    assert (ratio.low, ratio.high) == pytest.approx((0.9, 0.9))


def test_what_slows_the_whole_machine_falls_out() -> None:
    slow = [1, 1, 2, 4, 1, 3]
    (ratio,) = ratios(*one("E2E p50 s", [2.0 * each for each in slow], [1.0 * each for each in slow]))
    assert (ratio.ratio, ratio.low, ratio.high) == pytest.approx((2, 2, 2))


def test_metrics_that_one_side_lacks_are_left_out() -> None:
    target: list[Round] = [{"tokens/s": 5, "TTFT p50 s": 1}, {"tokens/s": 5}]
    baseline: list[Round] = [{"tokens/s": 5}, {"tokens/s": 5, "TTFT p50 s": 1}]
    assert [ratio.metric for ratio in ratios(target, baseline)] == ["tokens/s"]


def test_nothing_is_divided_by_zero() -> None:
    assert list(ratios(*one("errors", [3, 0], [0, 0]))) == []


def test_the_same_rounds_give_the_same_interval() -> None:
    rounds = one("TTFT p50 s", [1.0, 1.3, 0.7, 1.1], [1.0, 1.1, 0.9, 1.0])
    assert list(ratios(*rounds)) == list(ratios(*rounds))


def test_every_metric_says_which_way_is_better() -> None:
    assert set(METRICS.values()) == {"higher", "lower", "neither"}
