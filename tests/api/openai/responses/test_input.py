from __future__ import annotations

from typing import Any

import pytest

from serving.api.openai.responses.input import instructions_of, messages_of
from serving.errors import InvalidValueError
from serving.harmony.conversation import AssistantMessage, FunctionCall, ToolMessage, UserMessage


def said(text: str, phase: str = "final_answer") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "phase": phase, "content": [{"type": "output_text", "text": text}]}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}]}


def called(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"call_{name}", "name": name, "arguments": "{}"}


def gave(name: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"call_{name}", "output": output}


def asked(text: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def call(name: str) -> FunctionCall:
    return FunctionCall(f"call_{name}", name, "{}")


def test_what_the_model_said_in_one_go_is_one_message() -> None:
    items = [
        asked("q"),
        thought("t"),
        said("p", "commentary"),
        called("a"),
        called("b"),
        gave("a", "1"),
        gave("b", "2"),
    ]
    assert messages_of([*items, thought("u"), said("done")]) == (
        UserMessage("q"),
        AssistantMessage(reasoning="t", commentary="p", tool_calls=(call("a"), call("b"))),
        ToolMessage("a", "1", "call_a"),
        ToolMessage("b", "2", "call_b"),
        AssistantMessage(reasoning="u", content="done"),
    )


def test_the_order_of_thoughts_preambles_and_calls_stays() -> None:
    items = [thought("t"), called("a"), thought("u"), called("b"), said("p", "commentary"), said("q", "commentary")]
    assert messages_of(items) == (
        AssistantMessage(reasoning="t", tool_calls=(call("a"),)),
        AssistantMessage(reasoning="u", tool_calls=(call("b"),)),
        AssistantMessage(commentary="p"),
        AssistantMessage(commentary="q"),
    )


def test_a_thought_that_says_nothing_is_nothing() -> None:
    assert messages_of([{"type": "reasoning", "content": []}, said("x")]) == (AssistantMessage(content="x"),)


def test_an_output_may_be_parts() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages_of([called("f"), gave("f", parts)])[-1] == ToolMessage("f", "ab", "call_f")


def test_an_output_without_its_call_is_refused_with_its_place_in_the_request() -> None:
    with pytest.raises(InvalidValueError, match="call_f") as caught:
        messages_of([asked("q"), said("a"), asked("q"), gave("f", "x")], first_new=2)
    assert caught.value.param == "input[1].call_id"


def test_two_calls_of_one_id_that_wait_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="same id") as caught:
        messages_of([asked("q"), called("f"), called("f"), gave("f", "x")])
    assert caught.value.param == "input[2].call_id"
    messages_of([asked("q"), called("f"), gave("f", "x"), called("f"), gave("f", "x")])


def test_instructions_come_before_those_among_the_items() -> None:
    items = [asked("b", "system"), asked("q"), asked("c", "developer")]
    assert instructions_of("a", items) == "a\n\nb\n\nc"
    assert instructions_of(None, items) == "b\n\nc"
    assert instructions_of(None, [asked("q")]) is None
    assert messages_of(items) == (UserMessage("q"),)
