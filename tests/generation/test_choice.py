from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.base import FinishReason, Sampling, TokenDelta
from serving.generation.choice import ChoiceReader
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
)
from serving.harmony.conversation import Conversation, FunctionTool, UserMessage
from serving.harmony.vocabulary import encode, encode_harmony

FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"
TWO_CALLS = (
    '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'
    '<|start|>assistant<|channel|>commentary to=functions.g <|constrain|>json<|message|>{"b": 2}<|call|>'
)


def read(
    completion: str,
    *,
    size: int = 1000,
    index: int = 0,
    stop: tuple[str, ...] = (),
    include_reasoning: bool = True,
    finish: FinishReason = "stop",
    mint: Callable[[], str] = lambda: "call_x",
    recovered: list[str] | None = None,
    second_chance: bool = True,
) -> tuple[list[ChatEvent], ChoiceReader]:
    request = ChatGeneration(
        "r",
        Conversation((UserMessage("x"),), tools=(FunctionTool("f"), FunctionTool("g"))),
        Sampling(max_tokens=1000),
        stop=stop,
        include_reasoning=include_reasoning,
        second_chance=second_chance,
    )
    reader = ChoiceReader(index, request, mint, None if recovered is None else recovered.append)
    ids = encode_harmony(completion)
    events: list[ChatEvent] = []
    for begin in range(0, len(ids), size):
        events += reader.read(TokenDelta(ids[begin : begin + size], finish if begin + size >= len(ids) else None))
    return events, reader


def text_of(events: list[ChatEvent], channel: str = "final") -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.channel == channel)


def test_one_delta_for_each_message_of_a_delta() -> None:
    events, _ = read(f"<|channel|>analysis<|message|>It is easy.{NEXT}{FINAL}Paris, of course.<|return|>")
    assert events == [
        TextDelta(0, "analysis", "It is easy.", opens=True),
        TextDelta(0, "final", "Paris, of course.", opens=True),
        ChoiceFinished(0, "stop"),
    ]


def test_only_the_first_delta_of_a_message_opens() -> None:
    events, _ = read(f"{FINAL}one two three<|return|>", size=1)
    texts = [event for event in events if isinstance(event, TextDelta)]
    assert [event.opens for event in texts] == [True, False, False]


def test_messages_on_one_channel_join_byte_for_byte_and_open_anew() -> None:
    events, _ = read(f"one{NEXT}{FINAL}two<|return|>")
    assert events[:2] == [TextDelta(0, "final", "one", opens=True), TextDelta(0, "final", "two", opens=True)]


def test_an_empty_message_makes_no_delta() -> None:
    events, _ = read(f"{FINAL}<|return|>", second_chance=False)
    assert events == [ChoiceFinished(0, "stop")]


def test_tool_calls_have_their_minted_ids_and_arguments() -> None:
    ids = iter(["call_a", "call_b"])
    events, _ = read(TWO_CALLS, index=3, mint=lambda: next(ids))
    assert events == [
        ToolCallDelta(3, 0, "call_a", "f"),
        ToolArgumentsDelta(3, 0, '{"a": 1}'),
        ToolCallDelta(3, 1, "call_b", "g"),
        ToolArgumentsDelta(3, 1, '{"b": 2}'),
        ChoiceFinished(3, "tool_calls"),
    ]


def test_arguments_of_one_delta_are_one_event_even_when_read_token_by_token() -> None:
    events, _ = read(TWO_CALLS, stop=("never said",))
    assert [event.text for event in events if isinstance(event, ToolArgumentsDelta)] == ['{"a": 1}', '{"b": 2}']


def test_hidden_reasoning_is_counted() -> None:
    completion = f"<|channel|>analysis<|message|>It is easy.{NEXT}{FINAL}Paris.<|return|>"
    events, reader = read(completion, include_reasoning=False)
    assert events == [TextDelta(0, "final", "Paris.", opens=True), ChoiceFinished(0, "stop")]
    assert reader.counts["analysis"] == len(encode("It is easy."))
    assert len(reader.tokens) == len(encode_harmony(completion))


def test_recoveries_are_told() -> None:
    recovered: list[str] = []
    read("Paris is the capital.<|return|>", recovered=recovered)
    assert recovered == ["header_missing"]


def test_recovery_without_a_listener_is_harmless() -> None:
    events, _ = read("Paris is the capital.<|return|>")
    assert text_of(events) == "Paris is the capital."


def test_stop_string_ends_the_choice_and_its_count() -> None:
    completion = f"{FINAL}one two three<|return|>"
    events, reader = read(completion, stop=(" two",))
    assert events == [TextDelta(0, "final", "one", opens=True), ChoiceFinished(0, "stop", stop=" two")]
    assert reader.over
    assert len(reader.tokens) == len(encode_harmony(f"{FINAL}one two"))


def test_nothing_comes_after_a_stop_string() -> None:
    events, reader = read(f"{FINAL}one two three four<|return|>", size=1, stop=(" two",))
    assert events[-1] == ChoiceFinished(0, "stop", stop=" two")
    assert len([event for event in events if isinstance(event, ChoiceFinished)]) == 1
    assert len(reader.tokens) == len(encode_harmony(f"{FINAL}one two"))


def test_stop_strings_are_for_the_final_channel_alone() -> None:
    events, _ = read(
        f"<|channel|>analysis<|message|>END{NEXT}<|channel|>commentary<|message|>END{NEXT}{FINAL}x END y<|return|>",
        stop=("END",),
    )
    assert text_of(events, "analysis") == "END"
    assert text_of(events, "commentary") == "END"
    assert text_of(events) == "x "


def test_beginning_of_a_stop_string_is_flushed_at_the_end() -> None:
    for finish in ("stop", "length"):
        completion = f"{FINAL}x EN" + ("<|return|>" if finish == "stop" else "")
        events, _ = read(completion, size=1, stop=("END",), finish="stop" if finish == "stop" else "length")
        assert text_of(events) == "x EN"
        assert events[-1] == ChoiceFinished(0, finish)


def test_beginning_of_a_stop_string_stays_with_its_message() -> None:
    events, _ = read(f"x EN{NEXT}{FINAL}D y<|return|>", stop=("END",))
    assert events[:2] == [TextDelta(0, "final", "x EN", opens=True), TextDelta(0, "final", "D y", opens=True)]


@pytest.mark.property
@given(
    text=st.text("ab é🦥", max_size=24),
    stops=st.lists(st.text("ab é🦥", min_size=1, max_size=4), min_size=1, max_size=3),
    size=st.integers(1, 9),
)
def test_stop_strings_agree_with_a_naive_search_over_tokens_and_deltas(text: str, stops: list[str], size: int) -> None:
    expected = text
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            expected = text[: end - max(map(len, complete))]
            break
    events, reader = read(f"{FINAL}{text}<|return|>", size=size, stop=tuple(stops))
    assert text_of(events) == expected
    _, whole = read(f"{FINAL}{text}<|return|>", stop=tuple(stops))
    assert len(reader.tokens) == len(whole.tokens)
