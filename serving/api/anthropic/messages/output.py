"""Content blocks of a generation, as a whole reply or as a stream's events."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic_core import from_json

from serving.api.anthropic.messages.events import MessageEvents
from serving.api.anthropic.messages.response import (
    INVALID_JSON,
    UNSIGNED,
    AnswerBlock,
    AnswerText,
    AnswerThinking,
    AnswerToolUse,
    AppliedEdits,
    MessageReply,
    MessageUsage,
    StopReason,
)
from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import Channel

_REASONS: dict[str, StopReason] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class BlockSink(Protocol):
    """Receiver of blocks: each is begun, grows, and is ended before the next is begun."""

    def begin(self, block: AnswerBlock) -> None:
        """Begin a block, empty."""
        ...

    def grow(self, text: str) -> None:
        """Add text to the open block."""
        ...

    def end(self) -> None:
        """End the open block."""
        ...


class BlockCutter:
    """Cutter of a generation's one choice into blocks for `sink`, one for each message and call of the model."""

    def __init__(self, sink: BlockSink) -> None:
        self.reason: StopReason = "end_turn"
        self.stop_sequence: str | None = None
        self._sink = sink
        self._channel: Channel | None = None
        self._open = False

    def add(self, event: ChatEvent) -> None:
        """Take the next event."""
        if isinstance(event, TextDelta):
            if event.opens or event.channel != self._channel:
                self._begin(_empty(event.channel), event.channel)
            self._sink.grow(event.text)
        elif isinstance(event, ToolArgumentsDelta):
            self._sink.grow(event.text)
        elif isinstance(event, ToolCallDelta):
            self._begin(AnswerToolUse(type="tool_use", id=event.id, name=event.name, input={}), None)
        elif isinstance(event, ChoiceFinished):
            self._end()
            self.reason = _REASONS[event.finish_reason] if event.stop is None else "stop_sequence"
            self.stop_sequence = event.stop

    def _begin(self, block: AnswerBlock, channel: Channel | None) -> None:
        self._end()
        self._open, self._channel = True, channel
        self._sink.begin(block)

    def _end(self) -> None:
        if self._open:
            self._open, self._channel = False, None
            self._sink.end()


class MessageBuilder:
    """Builder of the whole reply, from the events that a stream would send."""

    def __init__(self, message_id: str, model: str, edits: AppliedEdits | None = None) -> None:
        self._message_id = message_id
        self._model = model
        self._edits = edits
        self._cutter = BlockCutter(self)
        self._blocks: list[AnswerBlock] = []
        self._texts: list[str] = []
        self._usage: Usage | None = None

    def add(self, event: ChatEvent) -> None:
        """Take the next event."""
        if isinstance(event, GenerationFinished):
            self._usage = event.usage
        else:
            self._cutter.add(event)

    def reply(self) -> MessageReply:
        """Return the reply, once GenerationFinished was added."""
        if self._usage is None:
            raise ValueError("the generation has not finished")
        reply = _reply(self._message_id, self._model, usage_of(self._usage))
        reply["content"] = self._blocks
        if self._edits is not None:
            reply["context_management"] = self._edits
        reply["stop_reason"], reply["stop_sequence"] = self._cutter.reason, self._cutter.stop_sequence
        return reply

    def begin(self, block: AnswerBlock) -> None:
        """See BlockSink."""
        self._blocks.append(block)

    def grow(self, text: str) -> None:
        """See BlockSink."""
        self._texts.append(text)

    def end(self) -> None:
        """See BlockSink."""
        text, self._texts = "".join(self._texts), []
        block = self._blocks[-1]
        if block["type"] == "thinking":
            block["thinking"], block["signature"] = text, UNSIGNED
        elif block["type"] == "text":
            block["text"] = text
        else:
            block["input"] = _input(text)


class MessageEncoder:
    """Encoder of a streamed reply: frames for each event, b"" for events that the client does not see."""

    def __init__(self, message_id: str, model: str, edits: AppliedEdits | None = None) -> None:
        self._message_id = message_id
        self._model = model
        self._edits = edits
        self._events = MessageEvents()
        self._cutter = BlockCutter(self._events)

    def __call__(self, event: ChatEvent) -> bytes:
        """The event's frames."""
        if isinstance(event, GenerationStarted):
            usage = usage_of(Usage(len(event.prompt_token_ids), 0))
            self._events.start(_reply(self._message_id, self._model, usage))
        elif isinstance(event, GenerationFinished):
            self._events.finish(self._cutter.reason, self._cutter.stop_sequence, usage_of(event.usage), self._edits)
        else:
            self._cutter.add(event)
        return self._events.take()


def usage_of(usage: Usage) -> MessageUsage:
    """Usage as Anthropic counts it: the cached part of a prompt apart."""
    shown = MessageUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        output_tokens_details={"thinking_tokens": usage.reasoning_tokens},
    )
    if usage.recovered:
        shown["recovered"] = dict(usage.recovered)
    return shown


def _reply(message_id: str, model: str, usage: MessageUsage) -> MessageReply:
    return MessageReply(
        id=message_id,
        type="message",
        role="assistant",
        model=model,
        content=[],
        stop_reason=None,
        stop_sequence=None,
        usage=usage,
    )


def _empty(channel: Channel) -> AnswerBlock:
    if channel == "analysis":
        return AnswerThinking(type="thinking", thinking="", signature="")
    return AnswerText(type="text", text="")


def _input(text: str) -> dict[str, Any]:
    """A call's arguments; those that are no JSON object, as when max_tokens cut them, under a name that says so."""
    if not text.strip():
        return {}
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        return {INVALID_JSON: text}
    return value if isinstance(value, dict) else {INVALID_JSON: text}
