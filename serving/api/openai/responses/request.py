"""Body of POST /v1/responses.

Source: OpenAI's API reference, with two extensions (max_reasoning_tokens, min_answer_tokens). Fields that are known and
not done are in serving/api/wire/field_rules.py. Null means absent.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    FailFast,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from typing_extensions import TypeAliasType

from serving.api.openai.responses.items import InputItem
from serving.api.openai.responses.text import TextSettings
from serving.api.openai.responses.tools import TOOL_TYPES, Tool, ToolChoice, distinct_names, names_of, selection_of
from serving.api.wire.base_model import WireModel, invalid, only, unsupported
from serving.api.wire.body import parse_object
from serving.api.wire.field_rules import Place
from serving.api.wire.presets import Expand, unchanged
from serving.api.wire.reading import Reading
from serving.api.wire.tools import without_tools_not_run
from serving.api.wire.validation import validate

Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""What OpenAI's API may be asked to add to items; answers here have log probabilities and encrypted reasoning."""

_CHAT_FIELDS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}
_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_ResponseId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Summary = Literal["auto", "concise", "detailed"]


class Reasoning(WireModel):
    """Reasoning effort, and whether a summary is wanted."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: _Summary | None = Field(None, description="Any of them: the analysis is repeated as the summary.")
    generate_summary: _Summary | None = Field(None, description="The older name of `summary`.")
    context: Annotated[
        str | None, only("auto", "current_turn", because="gpt-oss is shown its analysis of the current turn alone.")
    ] = None
    mode: Annotated[str | None, only("standard", because="Only 'standard' is.")] = None


class ResponsesStreamOptions(WireModel):
    """Options of a streamed answer."""

    places: ClassVar[tuple[Place, ...]] = ("stream options",)


def _shape(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<items>" if isinstance(value, list) else None


# A named alias, because a union takes hashable members and FailFast has no hash.
InputItems = TypeAliasType("InputItems", Annotated[list[InputItem], FailFast()])
Input = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[InputItems, Tag("<items>")],
    Discriminator(_shape, custom_error_type="expected", custom_error_message="a string or an array of items"),
]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class ConversationId(WireModel):
    """A conversation by its id."""

    id: _ResponseId


def _conversation(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


ConversationChoice = Annotated[
    ConversationId | None, BeforeValidator(_conversation, json_schema_input_type=str | ConversationId | None)
]


class ResponsesRequest(WireModel):
    """One request, checked."""

    places: ClassVar[tuple[Place, ...]] = ("responses",)
    needs_input: ClassVar[bool] = True

    model: Annotated[str, StringConstraints(min_length=1)] = Field(description="A name or alias from GET /v1/models.")
    input: Input = Field([], description="What the user says, or items: messages, calls, their outputs, reasoning.")
    instructions: str | None = Field(None, description="A developer message; not inherited by later responses.")
    previous_response_id: _ResponseId | None = Field(None, description="A stored response that this one continues.")
    conversation: ConversationChoice = Field(None, description="A conversation, or its id, to continue and to add to.")
    store: bool | None = Field(None, description="false: keep nothing of this; default true.")
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto: the oldest turns give way where all of them do not fit."
    )

    max_output_tokens: int | None = Field(None, ge=1, description="Most tokens to write, reasoning included.")
    max_reasoning_tokens: int | None = Field(None, ge=0, description="Most tokens of analysis; then the answer begins.")
    min_answer_tokens: int | None = Field(None, ge=0, description="Tokens of max_output_tokens kept for the answer.")
    reasoning: Reasoning | None = None
    temperature: _Finite | None = Field(None, ge=0, le=2, description="0 picks the likeliest token; default 1.")
    top_p: _Finite | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives reported for each token.")
    text: TextSettings | None = None
    include: list[Include] | None = None
    stream: bool | None = None
    background: bool | None = Field(None, description="true: answer at once, and make the response meanwhile.")
    stream_options: ResponsesStreamOptions | None = None

    tools: Annotated[list[Tool] | None, FailFast(), Field(max_length=128), AfterValidator(distinct_names)] = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="false: an answer ends with its first call.")

    # What this server does not have, and what to do instead.
    prompt: Annotated[
        Any, only(because="There are no stored prompts: send their text as `instructions` and `input`.")
    ] = None
    context_management: Annotated[Any, only(because="Use `truncation: auto`.")] = None

    # These cannot change the answer: accepted, checked for their type, not used.
    metadata: Metadata | None = None
    max_tool_calls: int | None = Field(None, description="Accepted: it bounds built-in tools, of which there are none.")
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Explain fields of POST /v1/chat/completions, which are likely mistakes."""
        for theirs, ours in _CHAT_FIELDS.items():
            if data.get(theirs) is not None:
                raise unsupported(f"'{theirs}' is chat's; here it is '{ours}'.", at=theirs)

    @classmethod
    def with_tools_told(cls, data: dict[str, Any], reading: Reading) -> dict[str, Any]:
        """Leave out tools that this server does not run."""
        return without_tools_not_run(data, reading, lambda tool: tool["type"] in TOOL_TYPES)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ResponsesRequest:
        if self.needs_input and self.input == [] and self.conversation is None:
            if "input" not in self.model_fields_set:
                raise invalid("Missing required parameter: 'input'.", at="input", code="missing_required_parameter")
            raise invalid("Invalid 'input': expected at least one item.", at="input", code="empty_array")
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' needs 'stream' to be true.", at="stream_options")
        if self.conversation is not None and self.previous_response_id is not None:
            raise invalid("'conversation' and 'previous_response_id' exclude each other.", at="conversation")
        if self.background and self.store is False:
            raise invalid("A background response is a stored one: leave 'store' out.", at="store")
        if (self.min_answer_tokens or 0) > (self.max_output_tokens or self.min_answer_tokens or 0):
            raise invalid("'min_answer_tokens' is more than 'max_output_tokens'.", at="min_answer_tokens")
        selection_of(self.tool_choice).check([name for tool in self.tools or () for name in names_of(tool)])
        return self

    @property
    def logprobs(self) -> int | None:
        """Alternatives to report for each token; None: no log probabilities at all."""
        if self.top_logprobs:
            return self.top_logprobs
        return 0 if _LOGPROBS in (self.include or ()) else None

    @property
    def encrypts_reasoning(self) -> bool:
        """Whether reasoning items are to have encrypted_content."""
        return _ENCRYPTED in (self.include or ())

    def summary(self, setting: Literal["on_request", "always", "never"]) -> str | None:
        """Kind of summary that reasoning items get, by the request and the server's `setting`; None: none."""
        asked = (self.reasoning.summary or self.reasoning.generate_summary) if self.reasoning else None
        return None if setting == "never" else asked or ("auto" if setting == "always" else None)


class CompactRequest(ResponsesRequest):
    """A conversation to compact."""

    needs_input: ClassVar[bool] = False


class CountedRequest(ResponsesRequest):
    """A request whose prompt's tokens are counted."""

    needs_input: ClassVar[bool] = False


def parse_compact_request(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> CompactRequest:
    """The request in `body` of POST /v1/responses/compact. Raises as parse_responses_request()."""
    return validate(CompactRequest, expand(parse_object(body)), reading)


def parse_counted_request(body: bytes, expand: Expand = unchanged, reading: Reading | None = None) -> CountedRequest:
    """The request in `body` of POST /v1/responses/input_tokens. Raises as parse_responses_request()."""
    return validate(CountedRequest, expand(parse_object(body)), reading)


def parse_responses_request(
    body: bytes, expand: Expand = unchanged, reading: Reading | None = None
) -> ResponsesRequest:
    """The request in `body`. Raises MalformedBodyError, InvalidValueError or UnsupportedParameterError."""
    return validate(ResponsesRequest, expand(parse_object(body)), reading)
