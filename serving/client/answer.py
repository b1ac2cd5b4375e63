"""Answer put together from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serving.client.events import Channel, ChatEvent, TextDelta, ToolCall, Usage


@dataclass(slots=True)
class Answer:
    """Answer: texts by channel, calls and usage, as far as events have come; one that was stopped is a shorter one."""

    texts: dict[Channel, str] = field(default_factory=dict)
    tool_calls: list[ToolCall] = field(default_factory=list)
    usage: Usage | None = None

    def add(self, event: ChatEvent) -> None:
        """Take the next event."""
        match event:
            case TextDelta():
                self.texts[event.channel] = self.texts.get(event.channel, "") + event.text
            case ToolCall():
                self.tool_calls.append(event)
            case Usage():
                self.usage = event
            case _:
                pass  # starts and ends say nothing that deltas do not

    @property
    def content(self) -> str:
        """Text of the final channel."""
        return self.texts.get("final", "")

    def message(self) -> dict[str, Any]:
        """Assistant message for the next request's `messages`; reasoning is in it where calls need it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content or None}
        if self.tool_calls:
            said = {"reasoning": self.texts.get("analysis"), "commentary": self.texts.get("commentary")}
            message |= {name: text for name, text in said.items() if text}
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        return message
