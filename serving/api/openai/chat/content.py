"""Message content: a string, or parts of text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, FailFast, Field, Tag, model_validator
from typing_extensions import TypeAliasType

from serving.api.wire.base_model import WireModel, invalid, unsupported

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


class _Part(WireModel):
    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if isinstance(kind, str) and kind in _MEDIA:
            raise unsupported(f"Its type is '{kind}', and gpt-oss takes no {_MEDIA[kind]}: send parts of type 'text'.")


class TextPart(_Part):
    """Text. Other kinds of parts (images, audio, files) are refused: gpt-oss reads text."""

    type: Literal["text"]
    text: str


class AssistantPart(_Part):
    """Text, or the refusal that an assistant message may carry instead."""

    type: Literal["text", "refusal"]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _holds_its_text(self) -> AssistantPart:
        if (self.text if self.type == "text" else self.refusal) is None:
            raise invalid(
                f"Missing required parameter: a part of type '{self.type}' needs '{self.type}'.",
                at=self.type,
                code="missing_required_parameter",
            )
        return self


def _shape(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list) else None


# Named aliases, because a union takes hashable members and FailFast has no hash.
TextParts = TypeAliasType("TextParts", Annotated[list[TextPart], Field(min_length=1), FailFast()])
AssistantParts = TypeAliasType("AssistantParts", Annotated[list[AssistantPart], Field(min_length=1), FailFast()])
_BY_SHAPE = Discriminator(
    _shape,
    custom_error_type="expected",
    custom_error_message="a string or an array of text parts",
)
Content = Annotated[Annotated[str, Tag("<text>")] | Annotated[TextParts, Tag("<parts>")], _BY_SHAPE]
AssistantContent = Annotated[Annotated[str, Tag("<text>")] | Annotated[AssistantParts, Tag("<parts>")], _BY_SHAPE]


def text_of(content: str | list[TextPart] | list[AssistantPart] | None) -> str:
    """Text of the content, its parts joined; "" for none."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or getattr(part, "refusal", None) or "" for part in content)
