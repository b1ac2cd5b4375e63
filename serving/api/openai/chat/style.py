"""Style of chat replies: the fields that each channel's text has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.harmony.channels import FIELDS, Channel
from serving.settings.http import HttpSettings


@dataclass(frozen=True, slots=True)
class ReplyStyle:
    """Fields of a message or delta that have the text of each channel: one, or two with the same text."""

    fields: Mapping[Channel, tuple[str, ...]]

    @property
    def content_has_commentary(self) -> bool:
        """Whether preambles are in `content`, where an answer comes after them."""
        return "content" in self.fields["commentary"]


_COMMENTARY = {"field": ("commentary",), "content": ("content",), "both": ("commentary", "content")}


def reply_style(http: HttpSettings, *, has_form: bool = False) -> ReplyStyle:
    """Style that the settings ask for; the `content` of an answer that `has_form` is of that form and no more."""
    fields: dict[Channel, tuple[str, ...]] = {channel: (field,) for channel, field in FIELDS.items()}
    if http.reasoning_content:
        fields["analysis"] = ("reasoning", "reasoning_content")
    fields["commentary"] = _COMMENTARY["field" if has_form else http.commentary]
    return ReplyStyle(fields)
