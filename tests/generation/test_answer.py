from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.generation.answer import AnswerBuilder
from serving.generation.types import (
    ChatChoice,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.harmony.conversation import FunctionCall


def test_joins_interleaved_choices(make_request: Callable[..., ChatGeneration]) -> None:
    builder = AnswerBuilder(make_request(n=2))
    usage = Usage(1, 2, TokenCounts(analysis=3), 4)
    for event in (
        TextDelta(1, "analysis", "th", opens=True),
        TextDelta(0, "final", "a", opens=True),
        TextDelta(1, "analysis", "ink"),
        TextDelta(0, "final", "b"),
        ToolCallDelta(1, 0, "call_1", "f"),
        ChoiceFinished(0, "length"),
        ToolArgumentsDelta(1, 0, "{"),
        ToolArgumentsDelta(1, 0, "}"),
        ChoiceFinished(1, "tool_calls"),
        GenerationFinished(usage),
    ):
        builder.add(event)
    answer = builder.answer()
    assert answer.choices == [
        ChatChoice(0, {"final": "ab"}, finish_reason="length"),
        ChatChoice(
            1, {"analysis": "think"}, tool_calls=[FunctionCall("call_1", "f", "{}")], finish_reason="tool_calls"
        ),
    ]
    assert answer.usage == usage


def test_messages_on_one_channel_are_set_apart_and_thoughts_are_not(
    make_request: Callable[..., ChatGeneration],
) -> None:
    builder = AnswerBuilder(make_request())
    for event in (
        TextDelta(0, "analysis", "Hm", opens=True),
        TextDelta(0, "analysis", "...", opens=True),
        TextDelta(0, "final", "One.", opens=True),
        TextDelta(0, "final", "Two", opens=True),
        TextDelta(0, "final", "."),
        ChoiceFinished(0, "stop"),
        GenerationFinished(Usage(1, 2, TokenCounts(), 0)),
    ):
        builder.add(event)
    (choice,) = builder.answer().choices
    assert choice.texts == {"analysis": "Hm...", "final": "One.\n\nTwo."}


def test_there_is_no_answer_before_the_end(make_request: Callable[..., ChatGeneration]) -> None:
    builder = AnswerBuilder(make_request())
    builder.add(ChoiceFinished(0, "stop"))
    with pytest.raises(ValueError, match="not finished"):
        builder.answer()
