"""Turns of a Messages conversation, and their content blocks.

Source: Anthropic's API reference (MessageParam). Every field of our own replies is accepted back.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, FailFast, Field, StringConstraints, Tag, model_validator
from typing_extensions import TypeAliasType

from serving.api.wire.base_model import WireModel, invalid, unsupported
from serving.api.wire.field_rules import Place
from serving.api.wire.left_out import left_out
from serving.api.wire.tools import SAME_ID

_NonEmpty = Annotated[str, StringConstraints(min_length=1)]

# Blocks that Anthropic's API has and gpt-oss has no use for.
_MEDIA = {"image": "images", "document": "documents", "container_upload": "files"}


class TextBlock(WireModel):
    """Text."""

    places: ClassVar[tuple[Place, ...]] = ("block",)
    type: Literal["text"]
    text: str

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Refuse media by their type, before their fields are looked at."""
        _refuse_media(data.get("type"))


class ThinkingBlock(WireModel):
    """Thoughts of the model, which are shown to it again while a tool loop runs."""

    places: ClassVar[tuple[Place, ...]] = ("block",)
    type: Literal["thinking"]
    thinking: str
    signature: str | None = Field(None, description="Not looked at: thoughts are not signed here.")


class RedactedThinkingBlock(WireModel):
    """Thoughts that another service encrypted; left out, as they cannot be read here."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(WireModel):
    """A call that the model made."""

    places: ClassVar[tuple[Place, ...]] = ("block",)
    type: Literal["tool_use"]
    id: _NonEmpty
    name: _NonEmpty
    input: dict[str, Any]


def _shape(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<blocks>" if isinstance(value, list) else None


_BY_SHAPE = Discriminator(
    _shape, custom_error_type="expected", custom_error_message="a string or an array of content blocks"
)
# Named aliases, because a union takes hashable members and FailFast has no hash.
TextBlocks = TypeAliasType("TextBlocks", Annotated[list[TextBlock], FailFast()])
TextOrBlocks = Annotated[Annotated[str, Tag("<text>")] | Annotated[TextBlocks, Tag("<blocks>")], _BY_SHAPE]


def _results_in_text(value: Any) -> Any:
    """A result with the text of what has any, and with words in place of media: refusing them would end a thread."""
    if not isinstance(value, list):
        return value
    return [
        _in_text(block) if isinstance(block, dict) and isinstance(block.get("type"), str) else block for block in value
    ]


def _in_text(block: dict[str, Any]) -> dict[str, Any]:
    kind = block["type"]
    if kind == "text":
        return block
    named = [each for each in (block.get("title"), block.get("source")) if isinstance(each, str)]
    texts = [*named, *_texts_in(block.get("content")), *_texts_in(block.get("source"))]
    has_text = len(texts) > len(named)
    return {"type": "text", "text": "\n".join(texts) if has_text else left_out(kind)}


def _texts_in(value: Any) -> list[str]:
    """Text of a document's source, or of a search result's blocks."""
    if isinstance(value, list):
        return [text for each in value for text in _texts_in(each)]
    if not isinstance(value, dict):
        return []
    if value.get("type") == "content":
        return _texts_in(value.get("content"))
    text = (
        value.get("data" if value.get("media_type") == "text/plain" else "text")
        if value.get("type") == "text"
        else None
    )
    return [text] if isinstance(text, str) else []


ResultContent = Annotated[TextOrBlocks, BeforeValidator(_results_in_text)]


class ToolResultBlock(WireModel):
    """Result of a call."""

    places: ClassVar[tuple[Place, ...]] = ("block",)
    type: Literal["tool_result"]
    tool_use_id: _NonEmpty
    content: ResultContent | None = None
    is_error: bool | None = Field(None, description="true: the model is told that the call failed.")


_TYPES = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")


def _refuse_media(kind: object) -> None:
    if isinstance(kind, str) and kind in _MEDIA:
        raise unsupported(f"Its type is '{kind}', and gpt-oss takes no {_MEDIA[kind]}: send its text.")


def _known(value: Any) -> Any:
    """The block, unless its type is none of ours: a union's error would not say which are."""
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind is None:
        raise invalid("Missing required parameter: a content block needs 'type'.", "type", "missing_required_parameter")
    if not isinstance(kind, str):
        raise invalid("Invalid type: expected a string.", at="type", code="invalid_type")
    _refuse_media(kind)
    if kind not in _TYPES:
        raise unsupported(f"Its type is '{kind[:64]}'; this server takes blocks of the types {', '.join(_TYPES)}.")
    return value


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind is not None else None


Block = Annotated[
    Annotated[
        Annotated[TextBlock, Tag("<text>")]
        | Annotated[ThinkingBlock, Tag("<thinking>")]
        | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
        | Annotated[ToolUseBlock, Tag("<tool_use>")]
        | Annotated[ToolResultBlock, Tag("<tool_result>")],
        Discriminator(_kind, custom_error_type="expected", custom_error_message="an object"),
    ],
    BeforeValidator(_known),
]
Blocks = TypeAliasType("Blocks", Annotated[list[Block], FailFast()])
_BY_ROLE = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}


class Turn(WireModel):
    """One turn, of the user or of the model."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[Annotated[str, Tag("<text>")] | Annotated[Blocks, Tag("<blocks>")], _BY_SHAPE]

    @model_validator(mode="after")
    def _blocks_fit_the_role(self) -> Turn:
        allowed = _BY_ROLE[self.role]
        for i, block in enumerate(self.blocks):
            if block.type not in allowed:
                raise invalid(
                    f"A message of role '{self.role}' has no blocks of type '{block.type}', only of: "
                    f"{', '.join(allowed)}.",
                    at=f"content[{i}].type",
                )
        if self.role == "user" and not self.blocks:
            raise invalid("A message of the user says something.", at="content", code="empty_array")
        return self

    @property
    def blocks(self) -> list[Block]:
        """Content as blocks; a text is one block."""
        return [TextBlock(type="text", text=self.content)] if isinstance(self.content, str) else self.content


def results_match_calls(turns: list[Turn]) -> list[Turn]:
    """Refuse results whose call is not among those before them, and two calls with one id that wait."""
    called: set[str] = set()
    waiting: set[str] = set()
    for i, turn in enumerate(turns):
        for j, block in enumerate(turn.blocks):
            if isinstance(block, ToolUseBlock):
                if block.id in waiting:
                    raise invalid(SAME_ID, at=f"[{i}].content[{j}].id")
                waiting.add(block.id)
                called.add(block.id)
            elif isinstance(block, ToolResultBlock) and block.tool_use_id in called:
                waiting.discard(block.tool_use_id)
            elif isinstance(block, ToolResultBlock):
                at = f"[{i}].content[{j}].tool_use_id"
                raise invalid(
                    "A tool_result must answer a tool_use block of an assistant message before it; "
                    f"messages{at} names none.",
                    at=at,
                )
    return turns


def text_of(text: str | list[TextBlock] | None) -> str:
    """Text of the content, an empty line between blocks."""
    if text is None or isinstance(text, str):
        return text or ""
    return "\n\n".join(block.text for block in text)
