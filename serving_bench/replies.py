"""Replies of the three APIs, read into an Outcome: streams chunk by chunk, whole ones at their end.

Field names are OpenAI's, with what servers of reasoning models add: `reasoning` (vLLM and this project),
`reasoning_content` (SGLang, DeepSeek, older vLLM), `commentary` (this project).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from serving.sse_decoder import EventStream
from serving_bench.outcome import (
    BAD_CHUNK,
    BROKEN_STREAM,
    COMMENTARY,
    CONTENT,
    ERROR_IN_STREAM,
    REASONING,
    TOOL,
    Outcome,
    Usage,
)
from serving_bench.workload import Api


class Reader(Protocol):
    """Reader of the body of one reply. Failures go into the outcome; nothing is raised."""

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes."""
        ...

    def end(self, now: float) -> None:
        """End the reply; `fail`s the outcome when something is missing."""
        ...


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Text(msgspec.Struct):
    """A stream's delta, or a whole message."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    commentary: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    text: str | None = None
    finish_reason: str | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _ChatUsage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    completion_tokens_details: _CompletionDetails | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    """A chunk, or a whole reply, of chat and completions."""

    choices: list[_Choice] | None = None
    usage: _ChatUsage | None = None
    error: Any = None


class _ResponsesUsage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _PromptDetails | None = None
    output_tokens_details: _CompletionDetails | None = None


class _ContentPart(msgspec.Struct):
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_ContentPart] | None = None
    summary: list[_ContentPart] | None = None
    name: str | None = None
    arguments: str | None = None
    phase: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[_Item] | None = None
    usage: _ResponsesUsage | None = None
    error: Any = None


class _Event(msgspec.Struct):
    """An event of a Responses stream."""

    type: str = ""
    delta: Any = None
    output_index: int = 0
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    message: str | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode

_EVENT_CHANNELS = {
    "response.output_text.delta": CONTENT,
    "response.refusal.delta": CONTENT,
    "response.reasoning_text.delta": REASONING,
    "response.reasoning_summary_text.delta": REASONING,
    "response.function_call_arguments.delta": TOOL,
}
_LAST_EVENTS = ("response.completed", "response.incomplete")


def reader(api: Api, stream: bool, outcome: Outcome) -> Reader:
    """Reader of a reply with status 200; `stream` when it says that it is an event stream."""
    if api == "responses":
        return _ResponsesStream(outcome) if stream else _WholeResponse(outcome)
    return _ChatStream(outcome) if stream else _WholeChat(outcome)


class _Stream:
    """Base of streams' readers. A subclass's `_payload` reads one event and sets `_over` at the last."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._events = EventStream()
        self._over = False

    def feed(self, data: bytes, now: float) -> None:
        try:
            for payload in self._events.feed(data):
                if payload == b"[DONE]":
                    self._over = True
                else:
                    self._payload(payload, now)
        except ValueError as error:  # msgspec's DecodeError and ValidationError are, too
            self._outcome.fail(BAD_CHUNK, str(error))

    def end(self, now: float) -> None:
        if not self._over:
            self._outcome.fail(BROKEN_STREAM, "ended before its last event")

    def _payload(self, payload: bytes, now: float) -> None:
        raise NotImplementedError


class _ChatStream(_Stream):
    def _payload(self, payload: bytes, now: float) -> None:
        chunk = _decode_chunk(payload)
        if chunk.error is not None:
            self._outcome.fail(ERROR_IN_STREAM, error_words(chunk.error))
        for choice in chunk.choices or ():
            _read_choice(choice, choice.delta, self._outcome, now)
            if choice.finish_reason is not None:
                # Not every server says [DONE].
                self._over = True
        if chunk.usage is not None:
            self._outcome.usage = _chat_usage(chunk.usage)


class _ResponsesStream(_Stream):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self._commentary: set[int] = set()

    def _payload(self, payload: bytes, now: float) -> None:
        event = _decode_event(payload)
        channel = _EVENT_CHANNELS.get(event.type)
        if channel is not None:
            if event.delta:
                if channel == CONTENT and event.output_index in self._commentary:
                    channel = COMMENTARY
                self._outcome.text(channel, len(event.delta), now)
        elif event.type == "response.output_item.added" and event.item is not None:
            if event.item.phase == "commentary":
                self._commentary.add(event.output_index)
            if event.item.type == "function_call":
                _add(self._outcome, TOOL, event.item.name, now)
        elif event.type in _LAST_EVENTS and event.response is not None:
            self._over = True
            _read_status(event.response, self._outcome)
        elif event.type in ("error", "response.failed") or event.error is not None:
            failed = event.response.error if event.response is not None else None
            self._outcome.fail(ERROR_IN_STREAM, error_words(event.error or failed or event.message))


class _Whole:
    """Base of whole replies' readers: nothing is read before the end."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._parts: list[bytes] = []

    def feed(self, data: bytes, now: float) -> None:
        self._parts.append(data)

    def end(self, now: float) -> None:
        try:
            self._read(b"".join(self._parts), now)
        except ValueError as error:
            self._outcome.fail(BAD_CHUNK, str(error))
        # The text came all at once: its times say nothing that the request's end does not.
        self._outcome.first_text = self._outcome.first_content = None
        del self._outcome.chunk_times[:]

    def _read(self, body: bytes, now: float) -> None:
        raise NotImplementedError


class _WholeChat(_Whole):
    def _read(self, body: bytes, now: float) -> None:
        reply = _decode_chunk(body)
        if not reply.choices:
            self._outcome.fail(BAD_CHUNK, "a reply without choices")
        for choice in reply.choices or ():
            _read_choice(choice, choice.message, self._outcome, now)
        if reply.usage is not None:
            self._outcome.usage = _chat_usage(reply.usage)


class _WholeResponse(_Whole):
    def _read(self, body: bytes, now: float) -> None:
        response = _decode_response(body)
        if response.error is not None:
            self._outcome.fail(ERROR_IN_STREAM, error_words(response.error))
        for item in response.output or ():
            if item.type == "function_call":
                _add(self._outcome, TOOL, (item.name or "") + (item.arguments or ""), now)
                continue
            channel = REASONING if item.type == "reasoning" else COMMENTARY if item.phase == "commentary" else CONTENT
            for part in [*(item.summary or ()), *(item.content or ())]:
                _add(self._outcome, channel, part.text, now)
        _read_status(response, self._outcome)


def _read_choice(choice: _Choice, text: _Text | None, outcome: Outcome, now: float) -> None:
    if text is not None:
        repeated = text.commentary or ""
        _add(outcome, CONTENT, (text.content or "").removeprefix(repeated), now)
        _add(outcome, REASONING, text.reasoning or text.reasoning_content, now)
        _add(outcome, COMMENTARY, text.commentary, now)
        for call in text.tool_calls or ():
            if call.function is not None:
                _add(outcome, TOOL, (call.function.name or "") + (call.function.arguments or ""), now)
    _add(outcome, CONTENT, choice.text, now)
    if choice.finish_reason is not None:
        outcome.finish = choice.finish_reason


def _add(outcome: Outcome, channel: int, text: str | None, now: float) -> None:
    if text:
        outcome.text(channel, len(text), now)


def _read_status(response: _Response, outcome: Outcome) -> None:
    outcome.finish = response.status
    if (usage := response.usage) is not None:
        details, prompt = usage.output_tokens_details, usage.input_tokens_details
        outcome.usage = Usage(
            prompt=usage.input_tokens,
            completion=usage.output_tokens,
            reasoning=details.reasoning_tokens if details is not None else None,
            cached=prompt.cached_tokens if prompt is not None else None,
        )


def _chat_usage(usage: _ChatUsage) -> Usage:
    details, prompt = usage.completion_tokens_details, usage.prompt_tokens_details
    return Usage(
        prompt=usage.prompt_tokens,
        completion=usage.completion_tokens,
        reasoning=details.reasoning_tokens if details is not None else None,
        cached=prompt.cached_tokens if prompt is not None else None,
    )


def error_words(error: Any) -> str:
    """Message of OpenAI's error JSON, or the text in its place."""
    if isinstance(error, dict):
        inner = error.get("error", error)
        message = inner.get("message") if isinstance(inner, dict) else inner
        return str(message if message is not None else error)
    return str(error) if error is not None else ""
