from __future__ import annotations

import pytest

from serving.answering.reasoning import reasoning_limits
from serving.errors import InvalidValueError
from serving.settings.reasoning import ReasoningSettings


@pytest.mark.parametrize(
    ("asked", "default", "highest", "used"),
    [
        (None, None, None, None),
        (None, 100, None, 100),
        (None, None, 200, 200),
        (None, 100, 200, 100),
        (50, 100, 200, 50),
        (500, 100, 200, 200),
        (500, None, None, 500),
        (0, 100, 200, 0),
    ],
)
def test_a_budget_is_the_request_s_within_the_settings(
    asked: int | None, default: int | None, highest: int | None, used: int | None
) -> None:
    settings = ReasoningSettings(default_max_reasoning_tokens=default, highest_max_reasoning_tokens=highest)
    assert reasoning_limits(settings, effort=None, max_reasoning_tokens=asked).max_reasoning_tokens == used


@pytest.mark.parametrize(("asked", "used"), [(None, 64), (0, 0), (10, 10)])
def test_the_reserve_for_the_answer_has_a_default(asked: int | None, used: int) -> None:
    settings = ReasoningSettings(default_min_answer_tokens=64)
    assert reasoning_limits(settings, effort=None, min_answer_tokens=asked).min_answer_tokens == used


def test_the_effort_is_capped_and_refusals_name_the_field_that_was_sent() -> None:
    assert reasoning_limits(ReasoningSettings(highest_effort="low"), effort="high").effort == "low"
    with pytest.raises(InvalidValueError) as caught:
        reasoning_limits(ReasoningSettings(unsupported_effort="refuse"), effort="max", effort_param="reasoning.effort")
    assert caught.value.param == "reasoning.effort"
