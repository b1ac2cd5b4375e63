"""Which reasoning effort a request gets."""

from __future__ import annotations

from typing import Final, Literal

from serving.errors import InvalidValueError

Effort = Literal["low", "medium", "high"]
"""Reasoning efforts of gpt-oss."""
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
"""The same, least first."""

_NEAREST: Final[dict[str, Effort]] = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
"""Efforts of other OpenAI models, and what gpt-oss has nearest to them."""


def resolve_effort(
    requested: str | None,
    default: Effort,
    unsupported: Literal["clamp", "refuse"],
    *,
    highest: Effort = "high",
    param: str = "reasoning_effort",
) -> Effort:
    """The effort to render: what was asked for, or `default` where nothing was; never above `highest`.

    With "clamp" none, minimal, xhigh and max become the nearest effort, what is above `highest` becomes that, and any
    other word `default`. With "refuse" all these raise InvalidValueError(param=param).
    """
    if requested is None:
        return lower_effort(default, highest)
    allowed = EFFORTS[: EFFORTS.index(highest) + 1]
    for effort in allowed:
        if requested == effort:
            return effort
    if unsupported == "clamp":
        for effort in EFFORTS:
            if requested == effort:
                return highest
        return lower_effort(_NEAREST.get(requested, default), highest)
    raise InvalidValueError(
        f"{requested[:40]!r} is not a reasoning effort of this model. Use one of: {', '.join(allowed)}.", param=param
    )


def lower_effort(effort: Effort, highest: Effort) -> Effort:
    """The lower of two efforts."""
    return min(effort, highest, key=EFFORTS.index)
