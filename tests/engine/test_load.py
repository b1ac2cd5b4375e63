"""Rates of tokens."""

from __future__ import annotations

import pytest

from serving.engine.load import TokenRate


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = 100.0
    rate = TokenRate(lambda: now)
    assert rate.tokens_s == 0
    # Given 50 tokens every tenth of a second
    for _ in range(50):
        rate.add(50)
        now += 0.1
    assert rate.tokens_s == pytest.approx(500, rel=0.1)
    # When nothing more is made
    now += 1.0
    assert 0 < rate.tokens_s < 500
    now += 2.0
    assert rate.tokens_s == 0
