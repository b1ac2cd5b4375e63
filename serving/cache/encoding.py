"""Encoding of an answer as bytes, and its replay as a stream of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from serving.generation.ids import MintId
from serving.generation.types import (
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
from serving.harmony.channels import TOKEN_FIELDS, Channel, TokenCounts

_PIECE = 128
"""Characters of a delta in a replayed stream."""


class _Text(msgspec.Struct, tag="text", array_like=True):
    choice: int
    channel: Channel
    text: str
    opens: bool
    logprobs: tuple[LogprobEntry, ...] | None = None


class _Call(msgspec.Struct, tag="call", array_like=True):
    """Without its id, which is minted for each reply."""

    choice: int
    index: int
    name: str


class _Arguments(msgspec.Struct, tag="arguments", array_like=True):
    choice: int
    index: int
    text: str


class _Finish(msgspec.Struct, tag="finish", array_like=True):
    choice: int
    finish_reason: str
    reasoning_truncated: bool
    stop: str | None


_Part = _Text | _Call | _Arguments | _Finish


class KeptAnswer(msgspec.Struct, array_like=True):
    """Whole answer. `made_at` is in seconds since the epoch; `parts` are of one choice after the other.

    `usage` has each channel's tokens under a name of their own.
    """

    made_at: float
    usage: dict[str, int | str | None]
    parts: list[_Part]


def encode_answer(events: Iterable[ChatEvent], made_at: float) -> bytes:
    """Bytes of a whole answer from its events, GenerationFinished among them. Consecutive deltas are joined."""
    choices: dict[int, _Choice] = {}
    usage: Usage | None = None
    for event in events:
        if isinstance(event, GenerationFinished):
            usage = event.usage
        elif not isinstance(event, GenerationStarted):
            choices.setdefault(event.choice, _Choice()).add(event)
    if usage is None:
        raise ValueError("only whole answers are kept")
    parts = [part for index in sorted(choices) for part in choices[index].parts()]
    return msgspec.msgpack.encode(KeptAnswer(made_at, _named(usage), parts))


def decode_answer(data: bytes) -> KeptAnswer:
    """Answer from the bytes of encode_answer; raises msgspec.MsgspecError for anything else."""
    kept = msgspec.msgpack.decode(data, type=KeptAnswer)
    if not all(isinstance(kept.usage.get(name), int) for name in ("prompt_tokens", "completion_tokens")):
        raise msgspec.ValidationError("a kept answer does not say what it cost")
    return kept


def replay(kept: KeptAnswer, prompt: Sequence[int], mint_call_id: MintId, *, streaming: bool) -> Iterator[ChatEvent]:
    """Events of the answer again, in pieces where it is streamed; the usage says that it was cached."""
    yield GenerationStarted(prompt)
    for part in kept.parts:
        match part:
            case _Text():
                yield from _deltas(part, streaming=streaming)
            case _Call():
                yield ToolCallDelta(part.choice, part.index, mint_call_id(), part.name)
            case _Arguments():
                for text in _pieces(part.text) if streaming else (part.text,):
                    yield ToolArgumentsDelta(part.choice, part.index, text)
            case _Finish():
                yield ChoiceFinished(part.choice, part.finish_reason, part.reasoning_truncated, part.stop)
    yield GenerationFinished(_replayed(kept.usage))


def _named(usage: Usage) -> dict[str, int | str | None]:
    by_channel = {field: usage.channels[channel] for channel, field in TOKEN_FIELDS.items()}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        **by_channel,
        "cache": usage.cache,
    }


def _replayed(named: Mapping[str, int | str | None]) -> Usage:
    """The usage of a reply from the cache, whose whole prompt was cached."""
    counts = {name: value for name, value in named.items() if isinstance(value, int)}
    by_channel = {channel: counts.get(field, 0) for channel, field in TOKEN_FIELDS.items()}
    prompt = counts["prompt_tokens"]
    return Usage(prompt, counts["completion_tokens"], TokenCounts(**by_channel), cached_tokens=prompt, cache="hit")


class _Choice:
    """The parts of one choice; texts that go on are joined once, however many deltas they came in."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._texts: list[str] = []  # of the last part, where it is one that may go on

    def add(self, event: TextDelta | ToolCallDelta | ToolArgumentsDelta | ChoiceFinished) -> None:
        """Add the next event."""
        if isinstance(event, TextDelta | ToolArgumentsDelta) and self._goes_on(event):
            self._texts.append(event.text)
            return
        self._close()
        match event:
            case TextDelta():
                self._parts.append(_Text(event.choice, event.channel, event.text, event.opens, event.logprobs))
            case ToolArgumentsDelta():
                self._parts.append(_Arguments(event.choice, event.index, event.text))
            case ToolCallDelta():
                self._parts.append(_Call(event.choice, event.index, event.name))
            case ChoiceFinished():
                self._parts.append(_Finish(event.choice, event.finish_reason, event.reasoning_truncated, event.stop))

    def parts(self) -> list[_Part]:
        """All parts, once no event follows."""
        self._close()
        return self._parts

    def _goes_on(self, event: TextDelta | ToolArgumentsDelta) -> bool:
        last = self._parts[-1] if self._parts else None
        if isinstance(event, ToolArgumentsDelta):
            return isinstance(last, _Arguments) and last.index == event.index
        # Log probabilities stay with the delta that they came with.
        plain = event.logprobs is None and isinstance(last, _Text) and last.logprobs is None
        return plain and isinstance(last, _Text) and last.channel == event.channel and not event.opens

    def _close(self) -> None:
        if self._texts:
            last = self._parts[-1]
            assert isinstance(last, _Text | _Arguments), "only texts go on"
            last.text += "".join(self._texts)
            self._texts = []


def _deltas(part: _Text, *, streaming: bool) -> Iterator[TextDelta]:
    if not streaming or part.logprobs is not None:
        yield TextDelta(part.choice, part.channel, part.text, part.opens, part.logprobs)
        return
    opens = part.opens
    for text in _pieces(part.text):
        yield TextDelta(part.choice, part.channel, text, opens)
        opens = False


def _pieces(text: str) -> Iterator[str]:
    for begin in range(0, len(text), _PIECE):
        yield text[begin : begin + _PIECE]
