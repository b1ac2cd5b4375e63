"""Fields that `separate_thinking: true` adds to a chat answer: its channels apart, and the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from serving.api.openai.chat.response import HistoryMessage, Parsed, Thinking
from serving.generation.types import ChatChoice, ChatEvent, ChoiceFinished, GenerationStarted, TextDelta
from serving.harmony.channels import CHANNELS, Channel
from serving.harmony.tokenization import PromptMessage, prompt_messages


class SeparateThinking:
    """`thinking` and `parsed` of each choice of one answer; without analysis where the request hides that."""

    def __init__(self, *, show_reasoning: bool) -> None:
        self._show_reasoning = show_reasoning
        self._developer: str | None = None
        self._history: list[HistoryMessage] = []

    def prompt(self, prompt_token_ids: Sequence[int]) -> None:
        """The prompt of the answer; before any of the others."""
        for message in prompt_messages(prompt_token_ids):
            if message.role == "developer":
                self._developer = message.content
            elif message.role != "system" and (self._show_reasoning or message.channel != "analysis"):
                self._history.append(_history(message))

    def of(self, texts: Mapping[Channel, str]) -> tuple[Thinking, Parsed]:
        """The fields of a choice with these texts; "" stands for a channel without any."""
        shown: dict[str, str] = {
            channel: texts.get(channel, "") for channel in CHANNELS if self._show_reasoning or channel != "analysis"
        }
        parsed: dict[str, Any] = {"developer_instructions": self._developer, "history": self._history, **shown}
        del shown["final"]
        return cast("Thinking", shown), cast("Parsed", parsed)

    def of_choice(self, choice: ChatChoice) -> tuple[Thinking, Parsed]:
        """The fields of a whole choice."""
        return self.of(choice.texts)


class StreamedThinking:
    """The same for a stream: texts are kept until their choice is over."""

    def __init__(self, separate: SeparateThinking) -> None:
        self._separate = separate
        self._texts: dict[tuple[int, Channel], list[str]] = {}

    def add(self, event: ChatEvent) -> str | None:
        """Take the next event; for the end of a choice, the members of JSON that its last delta gets."""
        if isinstance(event, TextDelta):
            self._texts.setdefault((event.choice, event.channel), []).append(event.text)
        elif isinstance(event, GenerationStarted):
            self._separate.prompt(event.prompt_token_ids)
        elif isinstance(event, ChoiceFinished):
            texts = {channel: "".join(self._texts.pop((event.choice, channel), ())) for channel in CHANNELS}
            thinking, parsed = self._separate.of(texts)
            return f'"thinking":{json.dumps(thinking)},"parsed":{json.dumps(parsed)}'
        return None


def _history(message: PromptMessage) -> HistoryMessage:
    shown = HistoryMessage(role=message.role, channel=message.channel, content=message.content)
    if message.name is not None:
        shown["name"] = message.name
    if message.recipient is not None:
        shown["recipient"] = message.recipient
    return shown
