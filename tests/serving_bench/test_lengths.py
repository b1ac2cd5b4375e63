from __future__ import annotations

from random import Random
from statistics import median

import pytest

from serving.errors import SettingsError
from serving_bench.lengths import parse_lengths


@pytest.mark.parametrize("text", ["128", "uniform:64:512", "lognormal:256:0.7"])
def test_a_profile_reads_back_as_it_was_written(text: str) -> None:
    assert str(parse_lengths(text, "--x")) == text


def test_fixed_is_always_the_same() -> None:
    assert {parse_lengths("128", "--x").draw(Random(seed)) for seed in range(20)} == {128}


def test_uniform_reaches_both_ends() -> None:
    lengths, random = parse_lengths("uniform:3:5", "--x"), Random(1)
    assert {lengths.draw(random) for _ in range(100)} == {3, 4, 5}


def test_lognormal_has_the_median_that_was_asked_for() -> None:
    lengths, random = parse_lengths("lognormal:256:0.7", "--x"), Random(1)
    drawn = [lengths.draw(random) for _ in range(4000)]
    assert 240 <= median(drawn) <= 272
    assert min(drawn) >= 1


@pytest.mark.parametrize(
    "text",
    ["", "x", "0", "1.5", "-1", "uniform:5", "uniform:9:3", "lognormal:0:1", "lognormal:9:-1", "nan", "inf", "a:b"],
)
def test_nonsense_is_named_with_the_flag_and_the_forms(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_lengths(text, "--prompt-tokens")
    ((field, problem),) = raised.value.problems
    assert field == "--prompt-tokens"
    assert "uniform:64:512" in problem
