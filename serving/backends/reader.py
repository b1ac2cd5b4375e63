"""Conversion of another server's chunks into the events of serving/generation/types.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.backends import chunks
from serving.backends.think_tags import ThinkTags
from serving.errors import EngineDiedError
from serving.generation.ids import MintId
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    LogprobEntry,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import TOOL, Channel, TokenCounts

_MOST_CALLS = 1024


@dataclass(slots=True)
class _Call:
    place: int | None
    id: str | None


@dataclass(slots=True)
class _Choice:
    tags: ThinkTags = field(default_factory=ThinkTags)
    calls: list[_Call] = field(default_factory=list)
    channel: Channel | None = None
    dropping: bool = False
    reason: str | None = None
    over: bool = False
    repeats: bool = False

    def answered(self, delta: chunks.Delta) -> str:
        """New content, without the commentary that a server of this project repeats in it."""
        content = delta.content or delta.refusal or ""
        if delta.commentary and content.startswith(delta.commentary):
            self.repeats = True
            content = content[len(delta.commentary) :]
        if content and self.repeats:
            self.repeats = False
            content = content.removeprefix("\n\n")
        return content


class AnswerReader:
    """Reader of one answer. `prompt_tokens` stands in where the server does not count the prompt."""

    def __init__(self, request: ChatGeneration, mint_call_id: MintId, prompt_tokens: int) -> None:
        self._request = request
        self._mint_call_id = mint_call_id
        self._choices = [_Choice() for _ in range(request.n)]
        self._usage: chunks.Usage | None = None
        self._prompt_tokens = prompt_tokens
        self._deltas = 0
        self._characters = TokenCounts()

    @property
    def begun(self) -> bool:
        """Whether the first token, shown or not, or the end has arrived."""
        return self._deltas > 0 or any(choice.over for choice in self._choices)

    def read(self, chunk: chunks.Chunk) -> list[ChatEvent]:
        """Events of one chunk. Raises EngineDiedError for choices that were not asked for."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        events: list[ChatEvent] = []
        for choice in chunk.choices or ():
            if not 0 <= choice.index < len(self._choices):
                raise EngineDiedError("The backend sent a choice that was not asked for.")
            self._read_choice(choice, self._choices[choice.index], events)
        return events

    def finish(self) -> list[ChatEvent]:
        """Events of the end of the stream; raises EngineDiedError where a choice is not over."""
        events: list[ChatEvent] = []
        for index, choice in enumerate(self._choices):
            if choice.reason is None:
                raise EngineDiedError("The backend stopped sending before the answer was complete.")
            events.append(ChoiceFinished(index, choice.reason))
        return [*events, GenerationFinished(self.usage())]

    def usage(self) -> Usage:
        """Token counts as the server reports them; missing parts are estimated by text length."""
        told = self._usage or chunks.Usage()
        completion = self._deltas if told.completion_tokens is None else told.completion_tokens
        prompt = self._prompt_tokens if told.prompt_tokens is None else told.prompt_tokens
        details = told.completion_tokens_details
        written = self._characters.total or 1
        parts = {name: completion * count // written for name, count in self._characters.items()}
        reasoning = (
            parts["analysis"] if details is None or details.reasoning_tokens is None else details.reasoning_tokens
        )
        cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details else None
        rest = max(0, completion - reasoning)
        return Usage(
            prompt_tokens=max(0, prompt),
            completion_tokens=max(0, completion),
            channels=TokenCounts(
                analysis=max(0, min(reasoning, completion)),
                commentary=min(parts["commentary"], rest),
                final=min(parts["final"], max(0, rest - parts["commentary"] - parts["tool"])),
                tool=min(parts["tool"], rest),
            ),
            cached_tokens=max(0, min(cached or 0, prompt)),
        )

    def _read_choice(self, piece: chunks.Choice, choice: _Choice, events: list[ChatEvent]) -> None:
        delta = piece.delta or piece.message
        if delta is not None and not choice.over:
            logprobs = piece.logprobs
            if thought := delta.thought:
                self._text(piece.index, choice, "analysis", thought, events, logprobs.reasoning if logprobs else None)
            if delta.commentary:
                self._text(piece.index, choice, "commentary", delta.commentary, events, None)
            if content := choice.answered(delta):
                entries = logprobs.content if logprobs else None
                for channel, text in choice.tags.feed(content):
                    self._text(piece.index, choice, channel, text, events, entries)
                    entries = None
            for call in delta.tool_calls or ():
                self._call(piece.index, choice, call, events)
        if piece.finish_reason is not None and not choice.over:
            choice.over = True
            for channel, text in choice.tags.finish():
                self._text(piece.index, choice, channel, text, events, None)
            choice.reason = "length" if piece.finish_reason == "length" else "tool_calls" if choice.calls else "stop"

    def _text(
        self,
        index: int,
        choice: _Choice,
        channel: Channel,
        text: str,
        events: list[ChatEvent],
        logprobs: Sequence[chunks.TokenLogprob] | None,
    ) -> None:
        self._deltas += 1
        self._characters[channel] += len(text)
        if channel == "analysis" and not self._request.include_reasoning:
            return
        opens, choice.channel = choice.channel != channel, channel
        entries = None
        if logprobs and self._request.sampling.logprobs is not None and channel != "commentary":
            entries = tuple(map(_entry, logprobs))
        events.append(TextDelta(index, channel, text, opens, entries))

    def _call(self, index: int, choice: _Choice, piece: chunks.ToolCall, events: list[ChatEvent]) -> None:
        self._deltas += 1
        function = piece.function or chunks.Function()
        number = self._number(choice, piece, function)
        if number is None:
            choice.dropping = not self._request.parallel_tool_calls and bool(choice.calls)
            if choice.dropping:
                return
            if not function.name or len(choice.calls) >= _MOST_CALLS:
                raise EngineDiedError("The backend sent a piece of a function call that it had not begun.")
            number = len(choice.calls)
            choice.calls.append(_Call(piece.index, piece.id))
            choice.channel = None
            events.append(ToolCallDelta(index, number, piece.id or self._mint_call_id(), function.name))
        elif choice.dropping:
            return
        if arguments := _text_of(function.arguments):
            self._characters[TOOL] += len(arguments)
            events.append(ToolArgumentsDelta(index, number, arguments))

    @staticmethod
    def _number(choice: _Choice, piece: chunks.ToolCall, function: chunks.Function) -> int | None:
        """Number of the call that a piece belongs to; None for a new one.

        By its index, unless it comes with another id and a name: some servers give every call the index 0.
        """
        for number in reversed(range(len(choice.calls))):
            call = choice.calls[number]
            if piece.index is not None and piece.index != call.place:
                continue
            if function.name and piece.id is not None and piece.id != call.id:
                return None
            if piece.index is None and function.name:
                return None
            return number
        return None if function.name or not choice.dropping else len(choice.calls) - 1


def _entry(given: chunks.TokenLogprob) -> LogprobEntry:
    top = tuple((each.token, each.logprob, _utf8(each)) for each in given.top_logprobs or ())
    return LogprobEntry(given.token, given.logprob, _utf8(given), top)


def _utf8(token: chunks.Alternative) -> bytes:
    if token.bytes is not None and all(0 <= byte < 256 for byte in token.bytes):
        return bytes(token.bytes)
    return token.token.encode("utf-8", "replace")


def _text_of(arguments: object) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)
