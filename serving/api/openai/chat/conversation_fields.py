"""Fields that decide a prompt: of chat, and of /tokenize, which counts the same tokens."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, FailFast, Field, model_validator

from serving.api.openai.chat.messages import Message, answers_match_calls
from serving.api.openai.chat.tool_choice import ToolChoice, selection_of
from serving.api.openai.chat.tools import Tool, distinct_names
from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.field_rules import Place
from serving.api.wire.reading import Reading
from serving.api.wire.sampling_fields import RequestedEffort
from serving.api.wire.structured_outputs import ConstrainedFields
from serving.api.wire.tools import without_tools_not_run
from serving.api.wire.verbosity import Verbosity


class ReasoningOptions(WireModel):
    """OpenRouter's names of reasoning_effort, max_reasoning_tokens and include_reasoning."""

    effort: RequestedEffort | None = None
    max_tokens: int | None = Field(None, ge=0)
    exclude: bool | None = None
    enabled: bool | None = Field(None, description="false: effort 'none', which is the least there is.")
    summary: str | None = Field(None, description="Ignored: the analysis is shown as it is.")

    @property
    def asked(self) -> tuple[str | None, str]:
        """Effort, and the option that asks for it."""
        return ("none", "enabled") if self.effort is None and self.enabled is False else (self.effort, "effort")


class TemplateOptions(WireModel):
    """vLLM's names of reasoning_effort."""

    places: ClassVar[tuple[Place, ...]] = ("template",)
    reasoning_effort: RequestedEffort | None = None
    enable_thinking: bool | None = Field(None, description="false: effort 'none', which is the least there is.")
    thinking: bool | None = Field(None, description="Another name of enable_thinking.")

    @property
    def asked(self) -> tuple[str | None, str]:
        """Effort, and the option that asks for it."""
        if self.reasoning_effort is None and False in (self.enable_thinking, self.thinking):
            return "none", "enable_thinking" if self.enable_thinking is False else "thinking"
        return self.reasoning_effort, "reasoning_effort"


class ConversationFields(ConstrainedFields):
    """Messages, tools and reasoning effort."""

    places: ClassVar[tuple[Place, ...]] = ("conversation",)
    messages: Annotated[list[Message], Field(min_length=1), FailFast(), AfterValidator(answers_match_calls)]
    tools: Annotated[list[Tool] | None, FailFast(), Field(max_length=128), AfterValidator(distinct_names)] = None
    tool_choice: ToolChoice | None = Field(None, description="Default: auto where there are tools.")
    reasoning_effort: RequestedEffort | None = Field(
        None, description="low, medium or high; other words as the model's settings say."
    )
    reasoning: ReasoningOptions | None = None
    chat_template_kwargs: TemplateOptions | None = None
    verbosity: Verbosity | None = Field(None, description="A line in the prompt asks the model for it.")

    @classmethod
    def with_tools_told(cls, data: dict[str, Any], reading: Reading) -> dict[str, Any]:
        """Leave out tools that are no functions."""
        return without_tools_not_run(data, reading, lambda tool: tool["type"] == "function")

    @model_validator(mode="after")
    def _choice_can_be_kept(self) -> ConversationFields:
        if self.tool_choice is not None:
            selection_of(self.tool_choice).check(self._tool_names)
        return self

    @model_validator(mode="after")
    def _one_effort(self) -> ConversationFields:
        if self.reasoning is not None:
            self.agree("reasoning_effort", self.reasoning_effort, "effort", self.reasoning.effort)
        return self

    @staticmethod
    def agree(field: str, value: object, option: str, other: object) -> None:
        """Refuse a `field` that differs from `option` of `reasoning`, its other name."""
        if value is not None and other is not None and value != other:
            raise invalid(
                f"'{field}' and 'reasoning.{option}' are two names for one thing and differ here; send one of them.",
                at=f"reasoning.{option}",
            )

    @property
    def effort(self) -> str | None:
        """Effort that is asked for, in whichever field."""
        return self._other_effort()[0] if self.reasoning or self.chat_template_kwargs else self.reasoning_effort

    @property
    def effort_field(self) -> str:
        """Field that the effort came in."""
        return self._other_effort()[1] if self.reasoning or self.chat_template_kwargs else "reasoning_effort"

    def _other_effort(self) -> tuple[str | None, str]:
        for name, options in (("reasoning", self.reasoning), ("chat_template_kwargs", self.chat_template_kwargs)):
            effort, option = (None, "") if options is None else options.asked
            if effort is not None:
                return effort, f"{name}.{option}"
        return self.reasoning_effort, "reasoning_effort"

    @property
    def shown_tools(self) -> list[Tool]:
        """Tools that the model is told of."""
        if not self.tools:
            return []
        selection = selection_of(self.tool_choice)
        return [tool for tool in self.tools or () if selection.shows(tool.function.name)]

    @property
    def forced_tools(self) -> tuple[str, ...]:
        """Names of the functions of which one must be called."""
        return () if self.tool_choice is None else selection_of(self.tool_choice).forced(self._tool_names)

    @property
    def _tool_names(self) -> list[str]:
        return [tool.function.name for tool in self.tools or ()]
