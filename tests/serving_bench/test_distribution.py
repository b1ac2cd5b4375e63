from __future__ import annotations

import numpy as np
import pytest

from serving_bench.distribution import Distribution


def test_quantiles_are_those_of_the_values() -> None:
    values = Distribution()
    values.extend(float(number) for number in range(1, 102))
    assert [values.quantile(fraction) for fraction in (0, 0.5, 0.9, 0.99, 1)] == [1, 51, 91, 100, 101]
    assert (values.count, values.mean, values.max) == (101, 51, 101)


def test_nothing_has_no_quantile() -> None:
    assert Distribution().quantile(0.5) is None
    assert Distribution().mean is None


def test_more_values_than_are_kept_lose_a_tenth_of_a_percent_at_most() -> None:
    drawn = np.random.default_rng(1).lognormal(-4, 1.5, 50_000)
    values = Distribution(exact_values=1000)
    for part in np.array_split(drawn, 97):
        values.extend(part)
    for fraction in (0.01, 0.5, 0.9, 0.99, 0.999):
        assert values.quantile(fraction) == pytest.approx(np.quantile(drawn, fraction), rel=0.003)
    assert values.count == 50_000
    assert values.mean == pytest.approx(drawn.mean())
    assert values.max == drawn.max()


@pytest.mark.parametrize(("kept_here", "kept_there"), [(10_000, 10_000), (100, 10_000), (10_000, 100), (100, 100)])
def test_merged_values_are_as_if_added_one_by_one(kept_here: int, kept_there: int) -> None:
    drawn = np.random.default_rng(2).exponential(0.05, 2000)
    here, there = Distribution(kept_here), Distribution(kept_there)
    here.extend(drawn[:900])
    there.extend(drawn[900:])
    here.merge(there)
    assert here.count == 2000
    assert here.quantile(0.9) == pytest.approx(np.quantile(drawn, 0.9), rel=0.005)
    assert here.max == drawn.max()


def test_zero_and_the_very_long_have_their_place_in_buckets() -> None:
    values = Distribution(exact_values=1)
    values.extend([0.0, 0.0, 0.0, 1e9])
    assert values.quantile(0.5) == pytest.approx(1e-6, rel=0.01)
    assert values.max == 1e9
