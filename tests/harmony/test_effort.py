from __future__ import annotations

from typing import Literal

import pytest

from serving.errors import InvalidValueError
from serving.harmony.conversation import EFFORTS, Effort
from serving.harmony.effort import resolve_effort

Policy = Literal["clamp", "refuse"]


@pytest.mark.parametrize("policy", ["clamp", "refuse"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_supported_efforts_pass(effort: Effort, policy: Policy) -> None:
    assert resolve_effort(effort, "medium", policy) == effort


@pytest.mark.parametrize("default", EFFORTS)
def test_no_effort_asked_for_is_the_default(default: Effort) -> None:
    assert resolve_effort(None, default, "refuse") == default


@pytest.mark.parametrize(
    ("requested", "nearest"), [("none", "low"), ("minimal", "low"), ("xhigh", "high"), ("max", "high")]
)
def test_efforts_of_other_models_follow_the_policy(requested: str, nearest: Effort) -> None:
    assert resolve_effort(requested, "medium", "clamp") == nearest
    with pytest.raises(InvalidValueError, match="low, medium, high") as caught:
        resolve_effort(requested, "medium", "refuse")
    assert caught.value.param == "reasoning_effort"
    assert requested in caught.value.message


@pytest.mark.parametrize("policy", ["clamp", "refuse"])
@pytest.mark.parametrize("requested", ["", "LOW", "lowest", "medium ", "x" * 10_000])
def test_unknown_words_are_refused_with_the_allowed_ones(requested: str, policy: Policy) -> None:
    with pytest.raises(InvalidValueError, match="low, medium, high") as caught:
        resolve_effort(requested, "medium", policy)
    assert caught.value.param == "reasoning_effort"
    assert len(caught.value.message) < 300
