from __future__ import annotations

from typing import Literal

import pytest

from serving.effort import EFFORTS, Effort, resolve_effort
from serving.errors import InvalidValueError

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


@pytest.mark.parametrize("requested", ["", "LOW", "lowest", "medium ", "x" * 10_000])
def test_unknown_words_follow_the_policy(requested: str) -> None:
    assert resolve_effort(requested, "medium", "clamp") == "medium"
    with pytest.raises(InvalidValueError, match="low, medium, high") as caught:
        resolve_effort(requested, "medium", "refuse", param="reasoning.effort")
    assert caught.value.param == "reasoning.effort"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(("highest", "used"), [("low", "low"), ("medium", "medium"), ("high", "high")])
@pytest.mark.parametrize("requested", ["high", "xhigh"])
def test_effort_above_the_highest_follows_the_policy(requested: str, highest: Effort, used: Effort) -> None:
    assert resolve_effort(requested, "low", "clamp", highest=highest) == used
    if (requested, highest) != ("high", "high"):
        with pytest.raises(InvalidValueError):
            resolve_effort(requested, "low", "refuse", highest=highest)


@pytest.mark.parametrize("requested", [None, "odd"])
def test_the_default_is_never_above_the_highest(requested: str | None) -> None:
    assert resolve_effort(requested, "high", "clamp", highest="medium") == "medium"


def test_only_efforts_up_to_the_highest_are_offered() -> None:
    with pytest.raises(InvalidValueError) as caught:
        resolve_effort("high", "low", "refuse", highest="medium")
    assert caught.value.message.endswith("Use one of: low, medium.")
