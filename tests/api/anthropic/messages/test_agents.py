"""Messages requests as coding agents send them: edits of the context, large limits, images that tools return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from serving.harmony.raw import decode_raw

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

HELLO: Any = {"role": "user", "content": "Hello!"}
TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}
KEEP_ALL = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=f"http://{served.host}:{served.port}", api_key="none", max_retries=0
    ) as connected:
        yield connected


async def post(served: Served, path: str = "/v1/messages", **fields: Any) -> Any:
    body = {"model": "demo", "messages": [HELLO], **({} if "count" in path else {"max_tokens": 100}), **fields}
    reply = await served.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def prompt(served: Served) -> str:
    return decode_raw(served.engine.requests[-1].prompt_token_ids, skip_special=False)


def calls(count: int, **thinking: Any) -> list[Any]:
    """A tool loop of so many calls; result i is RESULT-i, and long."""
    turns: list[Any] = [HELLO]
    for i in range(count):
        thought = [{"type": "thinking", "thinking": f"THOUGHT-{i}", "signature": "unsigned"}] if thinking else []
        call = {"type": "tool_use", "id": f"t{i}", "name": "f" if i % 2 == 0 else "g", "input": {"query": f"INPUT-{i}"}}
        result = {"type": "tool_result", "tool_use_id": f"t{i}", "content": f"RESULT-{i} " + "word " * 50}
        turns += [{"role": "assistant", "content": [*thought, call]}, {"role": "user", "content": [result]}]
    return turns


def shown(text: str, word: str, count: int) -> list[int]:
    return [i for i in range(count) if f"{word}-{i}" in text]


async def test_claude_codes_edit_that_keeps_all_thoughts_changes_nothing(served: Served) -> None:
    plain = await post(served, messages=calls(3, thinking=True))
    before = prompt(served)

    reply = await post(served, messages=calls(3, thinking=True), context_management=KEEP_ALL)

    assert prompt(served) == before
    assert reply["context_management"] == {"applied_edits": []}
    assert "context_management" not in plain


async def test_old_thoughts_are_cleared_and_counted(served: Served) -> None:
    edit = {"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 2}}
    whole = await post(served, messages=calls(5, thinking=True))

    reply = await post(served, messages=calls(5, thinking=True), context_management={"edits": [edit]})

    assert shown(prompt(served), "THOUGHT", 5) == [3, 4]
    (applied,) = reply["context_management"]["applied_edits"]
    saved = whole["usage"]["input_tokens"] - reply["usage"]["input_tokens"]
    assert applied == {"type": edit["type"], "cleared_thinking_turns": 3, "cleared_input_tokens": saved}
    assert saved > 0


@pytest.mark.parametrize(
    ("edit", "results", "inputs"),
    [
        ({}, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),  # the prompt is shorter than by default
        ({"trigger": {"type": "tool_uses", "value": 6}}, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ({"trigger": {"type": "tool_uses", "value": 5}}, [3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ({"trigger": {"type": "input_tokens", "value": 10}}, [3, 4, 5], [0, 1, 2, 3, 4, 5]),
        (
            {"trigger": {"type": "input_tokens", "value": 10}, "keep": {"type": "tool_uses", "value": 0}},
            [],
            [*range(6)],
        ),
        (
            {"trigger": {"type": "tool_uses", "value": 1}, "keep": {"type": "tool_uses", "value": 1}},
            [5],
            [0, 1, 2, 3, 4, 5],
        ),
        ({"trigger": {"type": "tool_uses", "value": 5}, "exclude_tools": ["g"]}, [1, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ({"trigger": {"type": "tool_uses", "value": 5}, "clear_tool_inputs": True}, [3, 4, 5], [3, 4, 5]),
        ({"trigger": {"type": "tool_uses", "value": 5}, "clear_tool_inputs": ["g"]}, [3, 4, 5], [0, 2, 3, 4, 5]),
        (
            {
                "trigger": {"type": "tool_uses", "value": 5},
                "clear_at_least": {"type": "input_tokens", "value": 90_000},
            },
            [0, 1, 2, 3, 4, 5],
            [0, 1, 2, 3, 4, 5],
        ),
    ],
)
async def test_old_results_are_cleared_as_the_edit_says(
    served: Served, edit: Any, results: list[int], inputs: list[int]
) -> None:
    tools = [TOOL, {**TOOL, "name": "g"}]
    management = {"edits": [{"type": "clear_tool_uses_20250919", **edit}]}
    whole = await post(served, "/v1/messages/count_tokens", messages=calls(6), tools=tools)

    reply = await post(served, messages=calls(6), tools=tools, context_management=management)
    counted = await post(
        served, "/v1/messages/count_tokens", messages=calls(6), tools=tools, context_management=management
    )

    assert shown(prompt(served), "RESULT", 6) == results
    assert shown(prompt(served), "INPUT", 6) == inputs
    rendered = len(served.engine.requests[-1].prompt_token_ids)
    original = whole["input_tokens"]
    assert counted == {"input_tokens": rendered, "context_management": {"original_input_tokens": original}}
    applied = reply["context_management"]["applied_edits"]
    assert [each["cleared_tool_uses"] for each in applied] == ([6 - len(results)] if len(results) < 6 else [])
    assert sum(each["cleared_input_tokens"] for each in applied) == original - rendered


async def test_a_stream_tells_of_the_edits_in_the_end(served: Served, client: AsyncAnthropic) -> None:
    management: Any = {
        "edits": [
            {"type": "clear_tool_uses_20250919", "trigger": {"type": "tool_uses", "value": 1}},
            *KEEP_ALL["edits"],
        ]
    }
    async with client.beta.messages.stream(
        model="demo", max_tokens=100, messages=calls(5), tools=[TOOL], context_management=management
    ) as stream:
        message = await stream.get_final_message()

    assert message.context_management is not None
    assert [edit.type for edit in message.context_management.applied_edits] == ["clear_tool_uses_20250919"]


async def test_an_edit_nobody_told_us_of_is_ignored_and_named(served: Served) -> None:
    body = {
        "model": "demo",
        "max_tokens": 50,
        "messages": [HELLO],
        "context_management": {"edits": [{"type": "compact_20260112"}, *KEEP_ALL["edits"]]},
    }
    reply = await served.http.post("/v1/messages", json=body)
    strict = await served.http.post("/v1/messages", json=body, headers={"x-unknown-fields": "refuse"})

    assert reply.status_code == 200
    assert reply.headers["x-ignored-parameters"] == "context_management.edits.compact_20260112"
    assert strict.status_code == 400


async def test_max_tokens_above_the_room_mean_all_of_it(serve: Serve) -> None:
    async with serve(max_model_len=500) as served:
        await post(served, max_tokens=32_000)

    (request,) = served.engine.requests
    assert request.sampling.max_tokens == 500 - len(request.prompt_token_ids)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}},
            "[image left out: this model reads text alone]",
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aaaa"}},
            "[document left out: this model reads text alone]",
        ),
        (
            {
                "type": "document",
                "title": "Notes",
                "source": {"type": "text", "media_type": "text/plain", "data": "All is well."},
            },
            "Notes\nAll is well.",
        ),
        (
            {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "Found."}]},
            "T\nS\nFound.",
        ),
        ({"type": "tool_reference", "tool_name": "f"}, "[tool_reference left out: this model reads text alone]"),
    ],
)
async def test_what_a_tool_returns_beside_text_becomes_text(served: Served, block: Any, words: str) -> None:
    messages = calls(1)
    messages[-1]["content"][0]["content"] = [block]

    await post(served, messages=messages, tools=[TOOL])

    assert f"<|message|>{words}<|end|>" in prompt(served)


async def test_an_image_of_the_user_is_a_400(client: AsyncAnthropic) -> None:
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}
    with pytest.raises(anthropic.BadRequestError, match="no images"):
        await client.messages.create(model="demo", max_tokens=50, messages=[{"role": "user", "content": [image]}])


async def test_models_are_as_anthropics_client_reads_them(client: AsyncAnthropic) -> None:
    page = await client.models.list()
    model = await client.models.retrieve("demo")

    assert [(each.type, each.display_name) for each in page.data][:1] == [("model", "demo")]
    assert (page.has_more, page.first_id) == (False, "demo")
    assert (model.id, model.lifecycle, model.created_at.year) == ("demo", "active", 2025)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
        {"messages": calls(3, thinking=True), "thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ],
)
async def test_tokens_are_counted_as_they_are_rendered(served: Served, fields: Any) -> None:
    counted = await post(served, "/v1/messages/count_tokens", **fields)
    reply = await post(served, **fields)

    usage = reply["usage"]
    rendered = len(served.engine.requests[-1].prompt_token_ids)
    assert counted["input_tokens"] == rendered == usage["input_tokens"] + usage["cache_read_input_tokens"]
