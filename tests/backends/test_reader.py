"""Chunks of all kinds, well-formed or not, become events or one clear error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.backends.chunks import DECODER
from serving.backends.reader import AnswerReader
from serving.engine.base import Sampling
from serving.errors import EngineDiedError
from serving.generation.answer import AnswerBuilder
from serving.generation.types import ChatAnswer, ChatGeneration, GenerationFinished
from serving.harmony.conversation import Conversation, UserMessage

FUNCTION = st.fixed_dictionaries({}, optional={"name": st.sampled_from(["f", "", None]), "arguments": st.just("{}")})
CALL = st.fixed_dictionaries(
    {}, optional={"index": st.sampled_from([None, 0, 1]), "id": st.sampled_from([None, "a", "b"]), "function": FUNCTION}
)
TEXT = st.sampled_from([None, "", "a", "<think>", "</think>"])
DELTA = st.fixed_dictionaries(
    {}, optional={"content": TEXT, "reasoning": TEXT, "thinking": TEXT, "tool_calls": st.lists(CALL, max_size=3)}
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={"index": st.integers(-1, 2), "delta": DELTA, "finish_reason": st.sampled_from([None, "stop", "length"])},
)


def generation(**fields: Any) -> ChatGeneration:
    return ChatGeneration("r", Conversation((UserMessage("Hi"),)), Sampling(max_tokens=1), **fields)


def answer(chunks: list[dict[str, Any]], **fields: Any) -> ChatAnswer:
    asked = generation(**fields)
    reader, builder = AnswerReader(asked, lambda: "minted", 7), AnswerBuilder(asked)
    for chunk in chunks:
        for event in reader.read(DECODER.decode(json.dumps(chunk).encode())):
            builder.add(event)
    for event in reader.finish():
        builder.add(event)
    return builder.answer()


@given(st.lists(st.fixed_dictionaries({"choices": st.lists(CHOICE, max_size=2)}), max_size=8), st.booleans())
def test_any_chunks_give_an_answer_or_a_lost_backend(chunks: list[dict[str, Any]], parallel: bool) -> None:
    try:
        whole = answer(chunks, parallel_tool_calls=parallel)
    except EngineDiedError:
        return
    assert parallel or len(whole.choices[0].tool_calls) <= 1
    usage = whole.usage
    parts = usage.channels.total
    assert 0 <= parts <= usage.completion_tokens


def test_an_answer_that_comes_whole_is_one_chunk() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    whole = answer([{"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}])

    assert (whole.choices[0].content, whole.choices[0].reasoning) == ("Hello", "Hm.")
    assert whole.usage.prompt_tokens == 7


def test_reasoning_that_is_not_wanted_is_counted_and_not_shown() -> None:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"reasoning": "Hm."}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    whole = answer(chunks, include_reasoning=False)

    assert whole.choices[0].reasoning == ""
    assert whole.usage.reasoning_tokens == 1


def test_usage_without_a_sum_of_parts_cannot_exceed_what_was_told() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 99}}
    whole = answer([{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}])

    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.reasoning_tokens) == (3, 2, 2)


@pytest.mark.parametrize("text", ["[]", "{", '{"choices": 1}', '{"choices": [{"delta": {"content": []}}]}'])
def test_what_is_no_chunk_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        DECODER.decode(text.encode())


def test_the_end_is_the_last_event() -> None:
    reader = AnswerReader(generation(), lambda: "minted", 1)
    reader.read(DECODER.decode(b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}'))
    assert isinstance(reader.finish()[-1], GenerationFinished)
