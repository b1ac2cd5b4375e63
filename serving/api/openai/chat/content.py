"""Message content: a string, or parts of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, FailFast, Field, Tag, model_validator
from typing_extensions import TypeAliasType

from serving.api.wire.base_model import WireModel, invalid, unsupported
from serving.api.wire.left_out import left_out

# Kinds of parts in OpenAI's APIs and in vLLM's, and what they hold.
_MEDIA = {
    "image_url": "images",
    "image": "images",
    "input_image": "images",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "file": "files",
    "input_file": "files",
}

_TEXTS = ("text", "input_text", "output_text")
_THOUGHTS = {"thinking": "thinking", "reasoning": "text"}
"""Types of parts with analysis, as LangChain and Anthropic have them, and the field that has it."""


class TextPart(WireModel):
    """Text. Other kinds of parts (images, audio, files) are refused: gpt-oss reads text."""

    type: Literal["text", "input_text", "output_text"]
    text: str

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Refuse media by their type, before their fields are looked at."""
        kind = data.get("type")
        if isinstance(kind, str) and kind in _MEDIA:
            raise unsupported(f"Its type is '{kind}', and gpt-oss takes no {_MEDIA[kind]}: send parts of type 'text'.")


class AssistantPart(WireModel):
    """Text, the refusal that an assistant message may carry instead, or thoughts."""

    type: Literal["text", "input_text", "output_text", "refusal", "thinking", "reasoning"]
    text: str | None = None
    refusal: str | None = None
    thinking: str | None = Field(None, description="Analysis, which goes where `reasoning` goes.")

    @property
    def said(self) -> str:
        """Its text; "" for thoughts."""
        return "" if self.type in _THOUGHTS else (self.refusal if self.type == "refusal" else self.text) or ""

    @property
    def thought(self) -> str:
        """Its analysis; "" for text."""
        return (self.thinking or self.text or "") if self.type in _THOUGHTS else ""

    @model_validator(mode="after")
    def _holds_its_text(self) -> AssistantPart:
        field = "refusal" if self.type == "refusal" else "text"
        if self.type not in _THOUGHTS and getattr(self, field) is None:
            raise invalid(
                f"Missing required parameter: a part of type '{self.type}' needs '{field}'.",
                at=field,
                code="missing_required_parameter",
            )
        return self


def _shape(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list) else None


def _kind(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else None


def _results_in_text(value: Any) -> Any:
    """A tool's result with words in place of parts that are no text: refusing them would end an agent's thread."""
    if not isinstance(value, list):
        return value
    return [
        {"type": "text", "text": left_out(kind)} if (kind := _kind(part)) is not None and kind not in _TEXTS else part
        for part in value
    ]


def _spoken_parts(value: Any) -> Any:
    """Parts of an answer without calls, which `tool_calls` has too, and with words in place of media."""
    if not isinstance(value, list):
        return value
    parts: list[Any] = []
    for part in value:
        kind = _kind(part)
        if kind is None or kind == "refusal" or kind in _TEXTS or kind in _THOUGHTS:
            parts.append(part)
        elif kind in _MEDIA:
            parts.append({"type": "text", "text": left_out(kind)})
    return parts


# Named aliases, because a union takes hashable members and FailFast has no hash.
TextParts = TypeAliasType("TextParts", Annotated[list[TextPart], FailFast()])
AssistantParts = TypeAliasType("AssistantParts", Annotated[list[AssistantPart], FailFast()])
_BY_SHAPE = Discriminator(
    _shape,
    custom_error_type="expected",
    custom_error_message="a string or an array of text parts",
)
Content = Annotated[Annotated[str, Tag("<text>")] | Annotated[TextParts, Tag("<parts>")], _BY_SHAPE]
ResultContent = Annotated[Content, BeforeValidator(_results_in_text)]
AssistantContent = Annotated[
    Annotated[Annotated[str, Tag("<text>")] | Annotated[AssistantParts, Tag("<parts>")], _BY_SHAPE],
    BeforeValidator(_spoken_parts),
]


def text_of(content: str | list[TextPart] | list[AssistantPart] | None) -> str:
    """Text of the content, its parts joined; "" for none."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.said if isinstance(part, AssistantPart) else part.text for part in content)


def thoughts_in(content: str | list[AssistantPart] | None, blocks: Sequence[Any]) -> str:
    """Analysis among the parts of an answer, or else in the blocks that a client keeps beside it."""
    parts = [part.thought for part in content] if isinstance(content, list) else []
    return "\n\n".join(filter(None, parts)) or "\n\n".join(_texts_of_blocks(blocks))


def _texts_of_blocks(blocks: Sequence[Any]) -> Iterator[str]:
    for block in blocks:
        texts = (block.get(field) for field in ("thinking", "text", "summary")) if isinstance(block, dict) else ()
        text = next((text for text in texts if isinstance(text, str) and text), None)
        if text is not None:
            yield text
