"""How much a model may think about a request: what was asked for, within what its settings allow."""

from __future__ import annotations

from dataclasses import dataclass

from serving.effort import Effort, resolve_effort
from serving.settings.reasoning import ReasoningSettings


@dataclass(frozen=True, slots=True)
class ReasoningLimits:
    """Effort as rendered; most tokens of analysis (None: no limit); tokens kept for the answer."""

    effort: Effort
    max_reasoning_tokens: int | None
    min_answer_tokens: int


def reasoning_limits(
    settings: ReasoningSettings,
    *,
    effort: str | None,
    max_reasoning_tokens: int | None = None,
    min_answer_tokens: int | None = None,
    effort_param: str = "reasoning_effort",
) -> ReasoningLimits:
    """Defaults where nothing was asked for (None), caps where too much was.

    Raises InvalidValueError(param=effort_param) where the settings say to refuse the effort.
    """
    budget = settings.default_max_reasoning_tokens if max_reasoning_tokens is None else max_reasoning_tokens
    if settings.highest_max_reasoning_tokens is not None:
        highest = settings.highest_max_reasoning_tokens
        budget = highest if budget is None else min(budget, highest)
    return ReasoningLimits(
        effort=resolve_effort(
            effort,
            settings.default_effort,
            settings.unsupported_effort,
            highest=settings.highest_effort,
            param=effort_param,
        ),
        max_reasoning_tokens=budget,
        min_answer_tokens=settings.default_min_answer_tokens if min_answer_tokens is None else min_answer_tokens,
    )
