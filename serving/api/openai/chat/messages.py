"""Messages of a chat request, one model for each role."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, FailFast, Field, Tag, model_validator

from serving.api.openai.chat.content import AssistantContent, Content, ResultContent, thoughts_in
from serving.api.openai.chat.tools import ToolCall
from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.field_rules import Place
from serving.api.wire.tools import SAME_ID


class SystemMessage(WireModel):
    """Instructions; system and developer mean the same to gpt-oss's chat format."""

    places: ClassVar[tuple[Place, ...]] = ("message",)
    role: Literal["system", "developer"]
    content: Content | None = None
    name: str | None = Field(None, description="Who gives them; shown to the model.")


class UserMessage(WireModel):
    """Message of the user."""

    places: ClassVar[tuple[Place, ...]] = ("message",)
    role: Literal["user"]
    content: Content | None = None
    name: str | None = Field(None, description="Who of several users; shown to the model.")


class AssistantMessage(WireModel):
    """An earlier answer. May be what this API replied, field for field, so that clients can send it back."""

    places: ClassVar[tuple[Place, ...]] = ("message", "assistant message")
    role: Literal["assistant"]
    content: AssistantContent | None = None
    reasoning: str | None = Field(None, description="Its analysis; dropped from the prompt where Harmony says so.")
    reasoning_content: str | None = Field(None, description="Another name for `reasoning`.")
    commentary: str | None = Field(None, description="What it told the user before calling tools.")
    tool_calls: Annotated[list[ToolCall] | None, FailFast()] = None
    refusal: str | None = Field(None, description="Stands in for `content` where that is null.")
    name: str | None = Field(None, description="Who of several agents; shown to the model.")
    thinking_blocks: list[Any] | None = Field(None, description="LiteLLM's form of `reasoning`.")
    reasoning_details: list[Any] | None = Field(None, description="OpenRouter's form of `reasoning`.")

    @property
    def analysis(self) -> str | None:
        """Its analysis, in whichever form it came."""
        blocks = [*(self.thinking_blocks or ()), *(self.reasoning_details or ())]
        content = None if isinstance(self.content, str) else self.content
        return self.reasoning or self.reasoning_content or thoughts_in(content, blocks) or None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> AssistantMessage:
        if self.reasoning is not None and self.reasoning_content not in (None, self.reasoning):
            raise invalid(
                "'reasoning' and 'reasoning_content' are two names for one thing and differ here; send one of them.",
                at="reasoning_content",
            )
        return self


class ToolMessage(WireModel):
    """A function's result."""

    places: ClassVar[tuple[Place, ...]] = ("message",)
    role: Literal["tool"]
    tool_call_id: str
    content: ResultContent | None = None
    name: str | None = Field(None, description="Ignored: the call's id decides.")


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
    """Refuse tool messages whose call is not among those before them, and two calls with one id that wait."""
    names: dict[str, str] = {}
    waiting: set[str] = set()
    for i, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            for j, call in enumerate(message.tool_calls or ()):
                if call.id in waiting:
                    raise invalid(SAME_ID, at=f"[{i}].tool_calls[{j}].id")
                waiting.add(call.id)
                names[call.id] = call.function.name
        elif isinstance(message, ToolMessage):
            _check_answer(message, i, names)
            waiting.discard(message.tool_call_id)
    return messages


def _check_answer(message: ToolMessage, i: int, names: dict[str, str]) -> None:
    name = names.get(message.tool_call_id)
    if name is None:
        raise invalid(
            "A message of role 'tool' must answer a call in 'tool_calls' of an assistant message before it; "
            f"messages[{i}].tool_call_id names none.",
            at=f"[{i}].tool_call_id",
        )
