"""Settings of reasoning: efforts and budgets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from serving.effort import EFFORTS, Effort
from serving.settings.base import Section
from serving.settings.layer import KeyPath
from serving.settings.problems import several


class ReasoningSettings(Section):
    """Reasoning of a model: efforts and budgets."""

    default_effort: Effort = Field("medium", description="Effort of a request that names none.")
    highest_effort: Effort = Field("high", description="Most effort a request gets.")
    unsupported_effort: Literal["clamp", "refuse"] = Field(
        "clamp", description="What becomes of efforts above the highest and of unknown ones: the nearest, or a 400."
    )
    default_max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Analysis of a request that sets no budget, in tokens; unset: no budget."
    )
    highest_max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Most analysis a request gets, in tokens, whatever it asks for; unset: no limit."
    )
    default_min_answer_tokens: int = Field(
        0, ge=0, description="Tokens of max_tokens kept for the answer of a request that names no such reserve."
    )

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        above = EFFORTS.index(self.default_effort) > EFFORTS.index(self.highest_effort)
        if above and "default_effort" in self.model_fields_set:
            findings.append((("default_effort",), f"should be at most highest_effort, {self.highest_effort}"))
        default, highest = self.default_max_reasoning_tokens, self.highest_max_reasoning_tokens
        if default is not None and highest is not None and default > highest:
            findings.append(
                (("default_max_reasoning_tokens",), f"should be at most highest_max_reasoning_tokens, {highest}")
            )
        if findings:
            raise several(findings)
        return self
