from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.cache.encoding import decode_answer, encode_answer, replay
from serving.engine.base import Sampling
from serving.generation.answer import AnswerBuilder
from serving.generation.types import (
    ChatAnswer,
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.harmony.conversation import Conversation

CHOICES = 2
USAGE = Usage(prompt_tokens=10, completion_tokens=5, channels=TokenCounts(analysis=1), cached_tokens=4)

_logprobs = st.builds(
    LogprobEntry,
    token=st.text(max_size=3),
    logprob=st.floats(max_value=0),
    utf8=st.binary(max_size=3),
    top=st.lists(st.tuples(st.text(max_size=2), st.floats(max_value=0), st.binary(max_size=2)), max_size=2).map(tuple),
)
_texts = st.builds(
    TextDelta,
    choice=st.integers(0, CHOICES - 1),
    channel=st.sampled_from(["analysis", "commentary", "final"]),
    text=st.text(max_size=300),
    opens=st.booleans(),
)


@st.composite
def _deltas(draw: st.DrawFn) -> list[ChatEvent]:
    """What a generation may say before its choices end; calls of a choice are numbered as they come."""
    events: list[ChatEvent] = []
    calls = [0] * CHOICES
    for _ in range(draw(st.integers(0, 12))):
        choice = draw(st.integers(0, CHOICES - 1))
        kind = draw(st.sampled_from(["text", "logprobs", "call", "arguments"]))
        if kind == "text":
            events.append(draw(_texts))
        elif kind == "logprobs":
            entries = tuple(draw(st.lists(_logprobs, max_size=2)))
            events.append(TextDelta(choice, "final", draw(st.text(max_size=5)), logprobs=entries))
        elif kind == "call":
            events.append(ToolCallDelta(choice, calls[choice], "call_x", draw(st.text(max_size=5))))
            calls[choice] += 1
        elif calls[choice]:
            events.append(ToolArgumentsDelta(choice, calls[choice] - 1, draw(st.text(max_size=200))))
    return events


def built(events: list[ChatEvent]) -> ChatAnswer:
    request = ChatGeneration("r", Conversation(()), Sampling(max_tokens=1, logprobs=0), n=CHOICES)
    builder = AnswerBuilder(request)
    for event in events:
        builder.add(event)
    return builder.answer()


@given(_deltas(), st.booleans())
def test_what_is_read_joins_to_what_was_written(deltas: list[ChatEvent], streaming: bool) -> None:
    ends: list[ChatEvent] = [ChoiceFinished(0, "stop", stop="x"), ChoiceFinished(1, "length", reasoning_truncated=True)]
    events: list[ChatEvent] = [GenerationStarted([1]), *deltas, *ends, GenerationFinished(USAGE)]

    again = list(replay(decode_answer(encode_answer(events, 1.5)), [1], lambda: "call_x", streaming=streaming))

    one, other = built(events), built(again)
    assert other.choices == one.choices
    assert isinstance(again[0], GenerationStarted)
    assert [event for event in again if isinstance(event, ChoiceFinished)] == ends
    opened = [
        [(e.channel, e.opens) for e in some if isinstance(e, TextDelta) and e.choice == 0 and e.opens]
        for some in (events, again)
    ]
    if not streaming:
        assert opened[0] == opened[1]


def test_usage_says_that_the_answer_was_kept(answer: Callable[..., list[ChatEvent]]) -> None:
    kept = decode_answer(encode_answer(answer("a"), 1.5))
    last = list(replay(kept, [1], str, streaming=False))[-1]
    assert isinstance(last, GenerationFinished)
    assert (last.usage.cache, last.usage.cached_tokens) == ("hit", last.usage.prompt_tokens)
    assert kept.usage["cache"] is None
    assert kept.made_at == 1.5


def test_calls_have_ids_of_the_reply_that_they_are_in() -> None:
    events: list[ChatEvent] = [ToolCallDelta(0, 0, "call_old", "f"), ToolCallDelta(0, 1, "call_old2", "g")]
    numbers = itertools.count()
    data = encode_answer([*events, ChoiceFinished(0, "tool_calls"), GenerationFinished(USAGE)], 0)
    again = replay(decode_answer(data), [], lambda: f"new{next(numbers)}", streaming=True)
    assert [event.id for event in again if isinstance(event, ToolCallDelta)] == ["new0", "new1"]
    assert b"call_old" not in data


def test_many_deltas_take_little_more_than_their_text(answer: Callable[..., list[ChatEvent]]) -> None:
    assert len(encode_answer(answer(*["word "] * 10_000), 0)) < 51_000


def test_an_answer_that_is_not_whole_is_refused(answer: Callable[..., list[ChatEvent]]) -> None:
    with pytest.raises(ValueError, match="whole"):
        encode_answer(answer("a")[:-1], 0)


@given(st.binary(max_size=200))
def test_what_is_no_answer_is_found_out(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_answer(data)
