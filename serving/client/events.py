"""Events of a streamed answer, in order. `type` tells the classes apart where isinstance is unhandy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Channel = Literal["analysis", "commentary", "final"]


@dataclass(frozen=True, slots=True)
class ChannelStart:
    """Begin of a message on a channel."""

    channel: Channel
    type: Literal["channel_start"] = "channel_start"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the open channel; never empty."""

    channel: Channel
    text: str
    type: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True)
class ChannelEnd:
    """End of a channel's text; `text` is all of it."""

    channel: Channel
    text: str
    type: Literal["channel_end"] = "channel_end"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Whole tool call; `arguments` is the text that the model wrote, most likely JSON."""

    id: str
    name: str
    arguments: str
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class Usage:
    """End of the answer: finish reason and token counts. Exactly one, last.

    `finish_reason` is OpenAI's: stop, length or tool_calls. Counts are None where the server does not tell them;
    `reasoning_tokens` is part of `completion_tokens`, `cached_tokens` of `prompt_tokens`.
    """

    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    type: Literal["usage"] = "usage"


ChatEvent = ChannelStart | TextDelta | ChannelEnd | ToolCall | Usage
