"""Replies of a generation: one JSON object, or chunks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from serving.api.openai.chat.chunks import ChatChunks
from serving.api.openai.chat.response import (
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    CompletionUsage,
    ReplyFunction,
    ReplyMessage,
    ReplyToolCall,
)
from serving.api.openai.chat.style import ReplyStyle
from serving.api.openai.chat.thinking import SeparateThinking, StreamedThinking
from serving.api.openai.logprobs import shown_logprobs
from serving.generation.answer import BETWEEN_MESSAGES
from serving.generation.types import (
    ChatAnswer,
    ChatChoice,
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import CHANNELS


def chat_completion(
    answer: ChatAnswer,
    style: ReplyStyle,
    *,
    completion_id: str,
    created: int,
    model: str,
    separate: SeparateThinking | None = None,
) -> ChatCompletion:
    """Return the whole reply; `separate` adds its fields to each choice."""
    if separate is not None:
        separate.prompt(answer.prompt_token_ids)
    return ChatCompletion(
        id=completion_id,
        object="chat.completion",
        created=created,
        model=model,
        choices=[_choice(choice, style, separate) for choice in answer.choices],
        usage=_usage(answer.usage, separate is not None),
    )


class ChunkEncoder:
    """Encoder of a streamed reply: frames for each event, b"" for events that the client does not see."""

    def __init__(
        self, chunks: ChatChunks, *, choices: int, include_usage: bool, separate: SeparateThinking | None = None
    ) -> None:
        self._chunks = chunks
        self._thinking = StreamedThinking(separate) if separate is not None else None
        self._choices = choices
        self._include_usage = include_usage

    def __call__(self, event: ChatEvent) -> bytes:
        """The event's frame."""
        chunks = self._chunks
        members = None if self._thinking is None else self._thinking.add(event)
        if isinstance(event, TextDelta):
            if not event.opens and event.logprobs is None:
                return chunks.text(event.choice, event.channel, event.text)
            logprobs = _channel_logprobs(event.channel, event.logprobs) if event.logprobs is not None else None
            encoded = None if logprobs is None else json.dumps(logprobs)
            return chunks.rich_text(event.choice, event.channel, event.text, opens=event.opens, logprobs=encoded)
        match event:
            case ToolArgumentsDelta():
                return chunks.tool_arguments(event.choice, event.index, event.text)
            case ToolCallDelta():
                return chunks.tool_call(event.choice, event.index, event.id, event.name)
            case ChoiceFinished():
                truncated = '"reasoning_truncated":true' if event.reasoning_truncated else None
                return chunks.finish(event.choice, event.finish_reason, ",".join(filter(None, (truncated, members))))
            case GenerationStarted():
                return b"".join(map(self._chunks.role, range(self._choices)))
            case GenerationFinished():
                separate = self._thinking is not None
                return chunks.usage(_usage(event.usage, separate)) if self._include_usage else b""


def _choice(choice: ChatChoice, style: ReplyStyle, separate: SeparateThinking | None) -> Choice:
    content = choice.content
    if style.content_has_commentary:
        content = BETWEEN_MESSAGES.join(filter(None, (choice.commentary, content)))
    message = ReplyMessage(role="assistant", content=content, refusal=None)
    for channel in CHANNELS:
        if channel != "final" and (text := choice.texts.get(channel)):
            cast("dict[str, Any]", message).update({name: text for name in style.fields[channel] if name != "content"})
    if choice.tool_calls:
        message["content"] = content or None
        message["tool_calls"] = [
            ReplyToolCall(id=call.id, type="function", function=ReplyFunction(name=call.name, arguments=call.arguments))
            for call in choice.tool_calls
        ]
    if choice.reasoning_truncated:
        message["reasoning_truncated"] = True
    if separate is not None:
        message["thinking"], message["parsed"] = separate.of_choice(choice)
    return Choice(
        index=choice.index, message=message, logprobs=_choice_logprobs(choice), finish_reason=choice.finish_reason
    )


def _choice_logprobs(choice: ChatChoice) -> ChoiceLogprobs | None:
    if choice.content_logprobs is None and choice.reasoning_logprobs is None:
        return None
    logprobs = ChoiceLogprobs(content=shown_logprobs(choice.content_logprobs or ()), refusal=None)
    if choice.reasoning_logprobs:
        logprobs["reasoning"] = shown_logprobs(choice.reasoning_logprobs)
    return logprobs


def _channel_logprobs(channel: str, entries: Iterable[LogprobEntry]) -> ChoiceLogprobs:
    if channel == "analysis":
        return ChoiceLogprobs(content=None, refusal=None, reasoning=shown_logprobs(entries))
    return ChoiceLogprobs(content=shown_logprobs(entries), refusal=None)


def _usage(usage: Usage, separate: bool) -> CompletionUsage:
    shown = CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
        completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
    )
    if separate:
        shown["thinking_tokens"] = sum(usage.channels[channel] for channel in CHANNELS if channel != "final")
    if usage.cache is not None:
        shown["cache"] = usage.cache
    if usage.recovered:
        shown["recovered"] = dict(usage.recovered)
    return shown
