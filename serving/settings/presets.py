"""Presets: models under names of their own, with instructions, sampling, tools and a form of answers."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from serving.effort import Effort
from serving.schemas.check import schema_problem
from serving.settings.base import Section
from serving.settings.problems import several


class PresetTool(Section):
    """Function that requests to the preset offer."""

    name: str = Field(min_length=1, description="The function's name.")
    description: str | None = Field(None, description="What the model is told of it.")
    parameters: dict[str, Any] | None = Field(None, description="Its parameters, a JSON schema of type object.")
    strict: bool = Field(False, description="Hold arguments to the schema as they are written.")


class PresetAnswer(Section):
    """Form of a preset's answers."""

    name: str = Field("answer", pattern=r"^[\w-]{1,64}$", description="What the model is told the form is called.")
    description: str | None = Field(None, description="What the model is told of the form.")
    json_schema: dict[str, Any] = Field(description="Answers are held to this JSON schema as they are written.")

    @field_validator("json_schema")
    @classmethod
    def _can_be_kept(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if problem := schema_problem(schema):
            raise ValueError(f"cannot be kept: {problem.at}: {problem.message}")
        return schema


class PresetSettings(Section):
    """Preset of a model under a name of its own. What a request says itself wins, except for instructions."""

    model: str = Field(min_length=1, description="The model or alias that answers.")
    instructions: str | None = Field(None, description="Put before the instructions that a request has.")
    effort: Effort | None = Field(None, description="Effort of a request that names none.")
    max_reasoning_tokens: int | None = Field(
        None, ge=0, description="Analysis of a request that sets no budget, in tokens."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Temperature of a request that names none.")
    top_p: float | None = Field(None, ge=0, le=1, description="top_p of a request that names none.")
    tools: tuple[PresetTool, ...] = Field((), description="Tools of a request that offers none.")
    answer: PresetAnswer | None = Field(None, description="Form of the answer to a request that asks for none.")

    @model_validator(mode="after")
    def _distinct_tools(self) -> Self:
        seen: set[str] = set()
        for number, tool in enumerate(self.tools):
            if tool.name in seen:
                raise several([(("tools", str(number), "name"), f"`{tool.name}` is the name of a tool before it")])
            seen.add(tool.name)
        return self
