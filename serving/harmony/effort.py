"""Which reasoning effort a request gets."""

from __future__ import annotations

from typing import Final, Literal

from serving.errors import InvalidValueError
from serving.harmony.conversation import EFFORTS, Effort

_NEAREST: Final[dict[str, Effort]] = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
"""Efforts of other OpenAI models, and what gpt-oss has nearest to them."""


def resolve_effort(requested: str | None, default: Effort, unsupported: Literal["clamp", "refuse"]) -> Effort:
    """The effort to render: what was asked for, or `default` where nothing was.

    none, minimal, xhigh and max are clamped to the nearest effort, or refused, as `unsupported` says. Raises
    InvalidValueError(param="reasoning_effort") for those and for any other word.
    """
    if requested is None:
        return default
    for effort in EFFORTS:
        if requested == effort:
            return effort
    if unsupported == "clamp" and requested in _NEAREST:
        return _NEAREST[requested]
    allowed = [*EFFORTS, *_NEAREST] if unsupported == "clamp" else EFFORTS
    raise InvalidValueError(
        f"{requested[:40]!r} is not a reasoning effort of this model. Use one of: {', '.join(allowed)}.",
        param="reasoning_effort",
    )
