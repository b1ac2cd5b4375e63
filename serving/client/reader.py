"""Reader of a chat completion's chunks as events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

from serving.client.events import Channel, ChannelEnd, ChannelStart, ChatEvent, TextDelta, ToolCall, Usage
from serving.errors import ClientError

# The delta's fields that have text; servers differ in what they call the analysis.
_FIELDS: tuple[tuple[str, Channel], ...] = (
    ("reasoning", "analysis"),
    ("reasoning_content", "analysis"),
    ("commentary", "commentary"),
)


class ChunkReader:
    """Reader of the chunks of one answer with one choice.

    Up to `buffer_tokens` deltas of a channel are handed on as one, which spares a slow reader work; a delta is a token,
    or several that the server had at once.
    """

    def __init__(self, buffer_tokens: int = 0) -> None:
        self._buffer_tokens = buffer_tokens
        self._channel: Channel | None = None
        self._texts: list[str] = []
        self._held: list[str] = []
        self._call: ChoiceDeltaToolCall | None = None
        self._arguments: list[str] = []
        self._finish_reason: str | None = None
        self._usage: CompletionUsage | None = None
        self._repeats = False

    def feed(self, chunk: ChatCompletionChunk) -> Iterator[ChatEvent]:
        """Read the next chunk; returns its events."""
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            if choice.index != 0:
                raise ClientError("The answer has several choices, and events tell of one: ask for n=1.")
            yield from self._texts_of(choice.delta, opens=(choice.model_extra or {}).get("channel") is not None)
            for call in choice.delta.tool_calls or ():
                yield from self._take_call(call)
            if choice.finish_reason is not None:
                self._finish_reason = choice.finish_reason
                yield from self._end()

    def finish(self) -> Iterator[ChatEvent]:
        """End the stream. Raises ClientError where the answer was not complete."""
        if self._finish_reason is None:
            raise ClientError("The stream broke off before the answer was complete.")
        yield _usage(self._finish_reason, self._usage)

    def _texts_of(self, delta: ChoiceDelta, *, opens: bool) -> Iterator[ChatEvent]:
        extra: dict[str, Any] = delta.model_extra or {}
        said: Channel | None = None
        for field, channel in _FIELDS:
            text = extra.get(field)
            # Some servers send the analysis under both of its names.
            if text and said != channel:
                said = channel
                yield from self._grow(channel, text, opens)
        if delta.content and said == "commentary":
            self._repeats = True  # for clients that know no other field
        elif delta.content:
            text = delta.content.removeprefix("\n\n") if self._repeats else delta.content
            self._repeats = False
            yield from self._grow("final", text, opens)

    def _grow(self, channel: Channel, text: str, opens: bool) -> Iterator[ChatEvent]:
        if channel != self._channel or opens:
            yield from self._end()
            self._channel = channel
            yield ChannelStart(channel)
        self._texts.append(text)
        self._held.append(text)
        if len(self._held) >= self._buffer_tokens:
            yield self._flushed(channel)

    def _take_call(self, call: ChoiceDeltaToolCall) -> Iterator[ChatEvent]:
        if self._call is None or call.index != self._call.index:
            yield from self._end()
            self._call = call
        if call.function is not None and call.function.arguments:
            self._arguments.append(call.function.arguments)

    def _end(self) -> Iterator[ChatEvent]:
        """End the open channel or call, whichever is."""
        channel, call = self._channel, self._call
        if channel is not None:
            if self._held:
                yield self._flushed(channel)
            text, self._texts, self._channel = "".join(self._texts), [], None
            yield ChannelEnd(channel, text)
        if call is not None:
            arguments, self._arguments, self._call = "".join(self._arguments), [], None
            name = call.function.name if call.function is not None else None
            yield ToolCall(call.id or "", name or "", arguments)

    def _flushed(self, channel: Channel) -> TextDelta:
        text, self._held = "".join(self._held), []
        return TextDelta(channel, text)


def _usage(finish_reason: str, usage: CompletionUsage | None) -> Usage:
    if usage is None:
        return Usage(finish_reason)
    completion, prompt = usage.completion_tokens_details, usage.prompt_tokens_details
    return Usage(
        finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=completion.reasoning_tokens if completion else None,
        cached_tokens=prompt.cached_tokens if prompt else None,
    )
