"""Typed events of a streamed answer, over OpenAI's client; see docs/client.md.

Needs the `openai` package alone, nothing of the server: `pip install 'gpt-oss-serving[client]'`.
"""

from __future__ import annotations

try:
    import openai  # noqa: F401  (said here, in words, before a module of ours misses it)
except ModuleNotFoundError as error:
    if error.name != "openai":
        raise
    raise ModuleNotFoundError(
        "serving.client needs OpenAI's client: pip install 'gpt-oss-serving[client]', or pip install openai",
        name="openai",
    ) from error

from serving.client.answer import Answer
from serving.client.events import Channel, ChannelEnd, ChannelStart, ChatEvent, TextDelta, ToolCall, Usage
from serving.client.streams import astream_chat, stream_chat

__all__ = [
    "Answer",
    "Channel",
    "ChannelEnd",
    "ChannelStart",
    "ChatEvent",
    "TextDelta",
    "ToolCall",
    "Usage",
    "astream_chat",
    "stream_chat",
]
