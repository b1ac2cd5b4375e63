"""Bodies of POST /v1/messages and POST /v1/messages/count_tokens.

Source: Anthropic's API reference. Fields that are known and not done are in serving/api/wire/field_rules.py. Null means
absent, everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, FailFast, Field, StringConstraints, model_validator

from serving.api.anthropic.messages.content import TextOrBlocks, Turn, results_match_calls
from serving.api.anthropic.messages.context_management import ContextManagement
from serving.api.anthropic.messages.tools import ChosenTools, ClientTool, distinct_names, selection_of
from serving.api.wire.base_model import WireModel, invalid, only
from serving.api.wire.body import parse_object
from serving.api.wire.field_rules import Place
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.sampling_fields import Finite, ModelField, RequestedEffort
from serving.api.wire.structured_outputs import Schema
from serving.api.wire.tools import without_tools_not_run
from serving.api.wire.validation import validate
from serving.harmony.tokenization import VOCABULARY_SIZE

_EFFORT_FROM = ((4096, "high"), (2048, "medium"), (0, "low"))
"""What a budget of so many tokens or more says of effort, where nothing else does."""


class ThinkingOptions(WireModel):
    """Whether the analysis is shown, and how long it may be."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1, description="Most tokens of analysis; then the answer begins.")
    display: Literal["summarized", "omitted"] | None = Field(
        None, description="omitted: no thinking blocks. There are no summaries: the analysis is shown as it is."
    )

    @model_validator(mode="after")
    def _budget_where_enabled(self) -> ThinkingOptions:
        if self.type == "enabled" and self.budget_tokens is None:
            raise invalid(
                "Missing required parameter: thinking of type 'enabled' needs 'budget_tokens'.",
                "budget_tokens",
                "missing_required_parameter",
            )
        if self.type != "enabled" and self.budget_tokens is not None:
            raise invalid(f"Thinking of type '{self.type}' has no 'budget_tokens'.", at="budget_tokens")
        return self


class OutputFormat(WireModel):
    """The answer's form; it is held to the schema as it is written."""

    type: Literal["json_schema"]
    schema_: Schema = Field(alias="schema")


class OutputConfig(WireModel):
    """How much effort, and in what form."""

    effort: RequestedEffort | None = None
    format: OutputFormat | None = None
    task_budget: Annotated[Any, only(because="Use max_tokens, and budget_tokens of thinking.")] = None


def _no_threads(thread: Any) -> Any:
    """Anthropic's client sends the whole conversation instead once it is told so by this code."""
    if thread is not None:
        raise invalid(
            "There are no threads here: send the whole conversation in each request.", code="thread_unsupported_request"
        )
    return thread


class PromptFields(ModelField):
    """Fields that decide the prompt."""

    places: ClassVar[tuple[Place, ...]] = ("messages",)
    messages: Annotated[list[Turn], Field(min_length=1), FailFast(), AfterValidator(results_match_calls)]
    system: TextOrBlocks | None = None
    tools: Annotated[list[ClientTool] | None, FailFast(), Field(max_length=128), AfterValidator(distinct_names)] = None
    tool_choice: ChosenTools | None = Field(None, description="Default: auto where there are tools.")
    thinking: ThinkingOptions | None = Field(None, description="Absent: the model thinks, and does not show it.")
    output_config: OutputConfig | None = None
    context_management: ContextManagement | None = None
    thread: Annotated[Any, AfterValidator(_no_threads)] = None

    @classmethod
    def with_tools_told(cls, data: dict[str, Any], reading: Reading) -> dict[str, Any]:
        """Leave out tools that Anthropic defines."""
        return without_tools_not_run(data, reading, lambda tool: tool["type"] == "custom")

    @model_validator(mode="after")
    def _choice_can_be_kept(self) -> PromptFields:
        selection_of(self.tool_choice).check([tool.name for tool in self.tools or ()])
        return self

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> PromptFields:
        if self.messages[-1].role == "assistant":
            raise invalid(
                "The last message is the assistant's, and gpt-oss does not go on within a message: end with the "
                "user's.",
                at=f"messages[{len(self.messages) - 1}]",
            )
        return self

    @property
    def effort(self) -> str | None:
        """Effort that is asked for, in words or by a budget of thinking."""
        if self.output_config is not None and self.output_config.effort is not None:
            return self.output_config.effort
        thinking = self.thinking
        if thinking is None or thinking.type == "adaptive":
            return None
        return next(effort for least, effort in _EFFORT_FROM if (thinking.budget_tokens or 0) >= least)

    @property
    def effort_field(self) -> str:
        """Field that the effort came in."""
        named = self.output_config is not None and self.output_config.effort is not None
        return "output_config.effort" if named else "thinking"

    @property
    def shows_thinking(self) -> bool:
        """Whether the reply has thinking blocks."""
        thinking = self.thinking
        return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


class MessagesRequest(PromptFields):
    """One request for an answer, checked."""

    max_tokens: int = Field(ge=1, description="Most tokens to write, thinking included.")
    temperature: Finite | None = Field(None, ge=0, le=2, description="0 picks the likeliest token; default 1.")
    top_p: Finite | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=VOCABULARY_SIZE, description="0: all tokens.")
    stop_sequences: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]] | None, Field(max_length=16), FailFast()
    ] = Field(None, description="Up to 16 strings that end the answer; not delivered.")
    stream: bool | None = None

    @model_validator(mode="after")
    def _budget_leaves_room(self) -> MessagesRequest:
        budget = self.thinking.budget_tokens if self.thinking else None
        if budget is not None and budget >= self.max_tokens:
            raise invalid(
                f"'budget_tokens' is {budget} and max_tokens {self.max_tokens}: thinking counts among the tokens "
                "written, so it must be less.",
                at="thinking.budget_tokens",
            )
        return self


class CountTokensRequest(PromptFields):
    """One prompt to count the tokens of."""


def parse_messages_request(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> MessagesRequest:
    """The request in `body`. Raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    return validate(MessagesRequest, expand(parse_object(body)), reading)


def parse_count_tokens_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> CountTokensRequest:
    """The request in `body`. Raises as parse_messages_request does."""
    return validate(CountTokensRequest, expand(parse_object(body)), reading)
