"""Messages of a chat request, one model for each role."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, FailFast, Field, Tag, model_validator

from serving.api.openai.chat.content import AssistantContent, Content
from serving.api.openai.chat.tools import ToolCall
from serving.api.wire.base_model import WireModel, invalid


class SystemMessage(WireModel):
    """Instructions; system and developer mean the same to gpt-oss's chat format."""

    role: Literal["system", "developer"]
    content: Content
    name: None = None


class UserMessage(WireModel):
    """Message of the user."""

    role: Literal["user"]
    content: Content
    name: None = None


class AssistantMessage(WireModel):
    """An earlier answer. May be what this API replied, field for field, so that clients can send it back."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    reasoning: str | None = Field(None, description="Its analysis; dropped from the prompt where Harmony says so.")
    reasoning_content: str | None = Field(None, description="Another name for `reasoning`.")
    commentary: str | None = Field(None, description="What it told the user before calling tools.")
    tool_calls: Annotated[list[ToolCall] | None, FailFast()] = None
    refusal: str | None = Field(None, description="Stands in for `content` where that is null.")
    name: None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    parsed: Any = Field(None, description="Ignored: OpenAI's client adds it to messages that it parsed.")
    thinking: Any = Field(None, description="Ignored: replies carry it; `reasoning` and `commentary` say the same.")
    reasoning_truncated: bool | None = Field(None, description="Ignored: replies carry it.")
    channel: Any = Field(None, description="Ignored: clients that add up stream deltas add this up too.")

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.reasoning is not None and self.reasoning_content not in (None, self.reasoning):
            raise invalid(
                "'reasoning' and 'reasoning_content' are two names for one thing and differ here; send one of them.",
                at="reasoning_content",
            )
        said = (self.content, self.reasoning, self.reasoning_content, self.commentary, self.tool_calls, self.refusal)
        if all(field is None for field in said):
            raise invalid(
                "Missing required parameter: an assistant message needs 'content' or 'tool_calls'.",
                at="content",
                code="missing_required_parameter",
            )
        return self


class ToolMessage(WireModel):
    """A function's result."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content
    name: str | None = Field(None, description="The function's name; the call's id decides, this must agree.")


def _role(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    if not isinstance(role, str):
        return None
    return "<system>" if role == "developer" else f"<{role}>"


Message = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(_role),
]


def answers_match_calls(messages: list[Message]) -> list[Message]:
    """Refuse tool messages whose call is not among those before them."""
    names: dict[str, str] = {}
    for i, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            names.update({call.id: call.function.name for call in message.tool_calls or ()})
        elif isinstance(message, ToolMessage):
            _check_answer(message, i, names)
    return messages


def _check_answer(message: ToolMessage, i: int, names: dict[str, str]) -> None:
    name = names.get(message.tool_call_id)
    if name is None:
        raise invalid(
            "A message of role 'tool' must answer a call in 'tool_calls' of an assistant message before it; "
            f"messages[{i}].tool_call_id names none.",
            at=f"[{i}].tool_call_id",
        )
    if message.name not in (None, name):
        raise invalid(
            f"messages[{i}] answers a call of '{name}', and its name says otherwise; leave the name out.",
            at=f"[{i}].name",
        )
