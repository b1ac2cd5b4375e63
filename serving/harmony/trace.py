"""Trace of a completion: how the parser reads it, token by token, for people who debug models."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from serving.harmony import parser as reading
from serving.harmony.events import (
    ChannelOpened,
    Event,
    Finished,
    MessageClosed,
    Recovered,
    Text,
    ToolArguments,
    ToolCallOpened,
)
from serving.harmony.vocabulary import VOCABULARY_SIZE, encode_harmony, token_bytes

_NUMBERS = re.compile(r"[\[\]\s,\d]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One token: its place, id and text, where the parser is after it, and the events that it made.

    `at` is "header", a channel, "call NAME", or "over" for tokens that do not belong to the turn.
    """

    number: int
    token: int
    text: str
    at: str
    events: tuple[str, ...]


def read_tokens(text: str) -> list[int]:
    """Token ids of a completion: a list of numbers as it is, any other text with its special tokens spelled out.

    Raises ValueError for a number that is no token.
    """
    if not _NUMBERS.fullmatch(text):
        return encode_harmony(text.removesuffix("\n"))
    tokens = [int(word) for word in re.findall(r"\d+", text)]
    for token in tokens:
        if token >= VOCABULARY_SIZE:
            raise ValueError(f"{token} is no token of gpt-oss; ids are below {VOCABULARY_SIZE}")
    return tokens


def trace(tokens: Sequence[int], tools: Collection[str] | None = None) -> Iterator[Step]:
    """Steps of a completion, and one without a token for what its end makes.

    `tools` are the functions offered; with None any name is a call.
    """
    parser = reading.HarmonyParser(tools, one_turn=True)
    for number, token in enumerate(tokens):
        events = parser.feed((token,))
        yield Step(number, token, token_bytes(token).decode("utf-8", "backslashreplace"), _place(parser), _told(events))
    yield Step(len(tokens), -1, "", "end", _told(parser.finish("stop")))


def _place(parser: reading.HarmonyParser) -> str:
    if parser.turn_over:
        return "over"
    if parser.in_header:
        return "header"
    if parser.open_call is not None:
        return f"call {parser.open_call}"
    return parser.open_channel or "held back"


def _told(events: Sequence[Event]) -> tuple[str, ...]:
    return tuple(map(_told_one, events))


def _told_one(event: Event) -> str:
    match event:
        case ChannelOpened(channel):
            return f"opens {channel}"
        case Text(channel, text):
            return f"{channel} {json.dumps(text, ensure_ascii=False)}"
        case ToolCallOpened(index, name):
            return f"opens call {index} of {name}"
        case ToolArguments(index, text):
            return f"arguments {index} {json.dumps(text, ensure_ascii=False)}"
        case MessageClosed():
            return "closes"
        case Recovered(kind):
            return f"recovers: {kind}"
        case Finished(reason):
            return f"finishes: {reason}"
