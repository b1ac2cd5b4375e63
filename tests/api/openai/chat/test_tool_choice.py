from __future__ import annotations

import json
from typing import Any

import pytest

from serving.api.openai.chat.request import ChatCompletionRequest, parse_chat_request
from serving.errors import ApiError, InvalidValueError


def parse(choice: Any, *names: str) -> ChatCompletionRequest:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": choice}
    return parse_chat_request(json.dumps(body).encode())


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


@pytest.mark.parametrize(
    ("choice", "shown", "forced"),
    [
        (None, ["a", "b"], ()),
        ("auto", ["a", "b"], ()),
        ("none", [], ()),
        ("required", ["a", "b"], ("a", "b")),
        (named("b"), ["a", "b"], ("b",)),
        (allowed("auto", "b"), ["b"], ()),
        (allowed("required", "b", "b"), ["b"], ("b",)),
    ],
)
def test_a_choice_decides_what_is_shown_and_what_is_forced(choice: Any, shown: list[str], forced: Any) -> None:
    request = parse(choice, "a", "b")
    assert [tool.function.name for tool in request.shown_tools] == shown
    assert request.forced_tools == forced


@pytest.mark.parametrize(
    ("param", "choice"),
    [
        ("tool_choice", "always"),
        ("tool_choice", 5),
        ("tool_choice.type", {"type": "custom"}),
        ("tool_choice.type", {}),
        ("tool_choice.function", {"type": "function"}),
        ("tool_choice.function.name", {"type": "function", "function": {"name": ""}}),
        ("tool_choice.function.name", named("c")),
        ("tool_choice.allowed_tools.tools[1].function.name", allowed("auto", "a", "c")),
        ("tool_choice.allowed_tools.mode", allowed("any", "a")),
        ("tool_choice.allowed_tools.tools", allowed("auto")),
    ],
)
def test_choices_that_cannot_be_kept_are_refused_with_their_place(param: str, choice: Any) -> None:
    with pytest.raises(ApiError) as caught:
        parse(choice, "a", "b")
    assert isinstance(caught.value, InvalidValueError)
    assert caught.value.param == param
    assert len(caught.value.message) < 300


def test_nothing_can_be_required_of_no_tools() -> None:
    for choice in ("required", named("a")):
        with pytest.raises(InvalidValueError) as caught:
            parse(choice)
        assert str(caught.value.param).startswith("tool_choice")
    parse("auto")
    parse("none")
