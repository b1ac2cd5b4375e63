"""Bodies of POST /v1/messages, odd ones above all: each is read, or refused by name; what is read can be rendered."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.anthropic.messages.input import conversation_of
from serving.api.anthropic.messages.request import parse_messages_request
from serving.api.wire.anthropic_errors import messages_error
from serving.api.wire.presets import MESSAGES, expanding
from serving.errors import ApiError
from serving.harmony.render import render_prompt
from serving.settings.presets import PresetAnswer, PresetSettings, PresetTool

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Not one_of: it gives every alternative the same weight.
    return st.integers(0, 29).flatmap(lambda die: anything if die == 29 else likely)


def objects(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(
        {name: mostly(field) for name, field in required.items()},
        optional={name: mostly(field) for name, field in optional.items()},
    )


text = st.text(max_size=10)
ids = st.sampled_from(["a", "b"])
texts = objects({"type": st.just("text"), "text": text}, cache_control=st.just({"type": "ephemeral"}))
thoughts = objects({"type": st.just("thinking"), "thinking": text}, signature=text)
uses = objects({"type": st.just("tool_use"), "id": ids, "name": text, "input": st.just({"a": 1})})
results = objects({"type": st.just("tool_result"), "tool_use_id": ids}, content=text, is_error=st.booleans())
said = st.lists(texts | thoughts | uses, max_size=4)
asked = st.lists(texts | results, min_size=1, max_size=3)
turns = st.lists(
    objects({"role": st.just("user"), "content": text | asked})
    | objects({"role": st.just("assistant"), "content": text | said})
    | objects({"role": st.just("system"), "content": text}),
    max_size=4,
).map(lambda listed: [*listed, {"role": "user", "content": "Hello!"}])
tools = st.lists(objects({"name": text, "input_schema": st.just({"type": "object"})}, strict=st.booleans()), max_size=2)
choices = objects({"type": st.sampled_from(["auto", "any", "tool", "none"])}, name=text)
thinking = objects({"type": st.sampled_from(["enabled", "disabled", "adaptive"])}, budget_tokens=st.integers(0, 9000))
bodies = objects(
    {"model": st.sampled_from(["demo", "triage"]), "max_tokens": st.integers(1, 9000), "messages": turns},
    system=text | st.lists(texts, max_size=2),
    tools=tools,
    tool_choice=choices,
    thinking=thinking,
    output_config=objects({}, effort=text),
    stop_sequences=st.lists(text, max_size=2),
    stream=st.booleans(),
)
EXPAND = expanding(
    {
        "triage": PresetSettings(
            model="demo",
            instructions="Judge.",
            tools=(PresetTool(name="look_up", parameters=None, description=None, strict=False),),
            answer=PresetAnswer(name="answer", description=None, json_schema={"type": "object"}),
            effort="low",
            max_reasoning_tokens=None,
            temperature=0.5,
            top_p=None,
        )
    },
    MESSAGES,
)


@pytest.mark.property
@settings(max_examples=150)
@given(bodies)
def test_every_body_is_rendered_or_refused_with_a_message(body: Any) -> None:
    before = json.dumps(body)
    try:
        request = parse_messages_request(before.encode(), EXPAND)
        assert render_prompt(conversation_of(request, effort="low", today=date(2026, 1, 1)))
    except ApiError as error:
        told = messages_error(error, "req_1")
        assert told["error"]["type"] == "invalid_request_error"
        assert told["error"]["message"]


@pytest.mark.property
@given(bodies)
@settings(max_examples=50)
def test_what_was_sent_stays_as_it_was(body: Any) -> None:
    before = json.dumps(body)
    EXPAND(body)
    assert json.dumps(body) == before
