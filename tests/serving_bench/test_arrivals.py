from __future__ import annotations

from itertools import islice, pairwise, takewhile

import numpy as np
import pytest

from serving.errors import SettingsError
from serving_bench.arrivals import Ramp, arrivals, parse_ramp, steady


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    first = list(islice(arrivals(steady(5), 7), 50))
    assert first == list(islice(arrivals(steady(5), 7), 50))
    assert first != list(islice(arrivals(steady(5), 8), 50))


def test_a_steady_rate_is_a_poisson_process() -> None:
    times = list(islice(arrivals(steady(20), 1), 20_000))
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.03), "exponential gaps spread as wide as their mean"


@pytest.mark.parametrize("ramp", [Ramp(1, 20, 60), Ramp(20, 1, 60), Ramp(5, 5, 60), Ramp(0, 10, 60)])
def test_a_ramp_brings_as_many_as_its_rate_adds_up_to(ramp: Ramp) -> None:
    counts = [sum(1 for _ in takewhile(lambda at: at < 60, arrivals(ramp, seed))) for seed in range(60)]
    expected = (ramp.first + ramp.last) / 2 * 60
    assert np.mean(counts) == pytest.approx(expected, rel=0.03)


def test_a_ramp_is_as_fast_at_each_moment_as_it_says() -> None:
    times = np.concatenate(
        [list(takewhile(lambda at: at < 60, arrivals(Ramp(2, 10, 60), seed))) for seed in range(200)]
    )
    early, late = np.sum(times < 6) / 200 / 6, np.sum(times >= 54) / 200 / 6
    assert early == pytest.approx(2.4, rel=0.1)
    assert late == pytest.approx(9.6, rel=0.1)


def test_after_the_ramp_the_last_rate_stays() -> None:
    times = np.array(list(takewhile(lambda at: at < 400, arrivals(Ramp(1, 10, 10), 3))))
    assert np.sum(times > 100) / 300 == pytest.approx(10, rel=0.1)


def test_times_never_go_back() -> None:
    assert all(one <= other for one, other in pairwise(islice(arrivals(Ramp(20, 1, 10), 3), 500)))


def test_a_rate_that_falls_to_nothing_ends() -> None:
    assert all(at <= 10 for at in arrivals(Ramp(50, 0, 10), 1))


@pytest.mark.parametrize("text", ["", "1:2", "1:2:0", "0:0:5", "a:b:c", "-1:2:3", "1:inf:5"])
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="1:20:60"):
        parse_ramp(text)


def test_a_ramp_reads_back() -> None:
    assert str(parse_ramp("1:20:60")) == "1:20:60"
