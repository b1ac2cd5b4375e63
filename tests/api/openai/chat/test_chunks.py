from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletionChunk

from serving.api.openai.chat.chunks import ChatChunks
from serving.api.openai.chat.style import reply_style
from serving.api.streaming.sse import DONE, KEEP_ALIVE, error_frame
from serving.harmony.channels import Channel
from serving.settings.http import HttpSettings

PLAIN = reply_style(HttpSettings(reasoning_content=False, commentary="field"))
CHUNKS = ChatChunks("chatcmpl-1", 1_700_000_000, "demo", PLAIN, include_usage=False)


SAID: tuple[tuple[Channel, str], ...] = (
    ("commentary", "Look."),
    ("commentary", "Again."),
    ("analysis", "Hm."),
    ("final", "Paris."),
    ("final", "Indeed."),
)


def decoded(raw: bytes, cut: int | None = None) -> list[str]:
    pieces = [raw] if cut is None else [raw[i : i + cut] for i in range(0, len(raw), cut)]
    return [event.data for event in SSEDecoder().iter_bytes(iter(pieces))]


def chunk(frame: bytes) -> ChatCompletionChunk:
    (data,) = decoded(frame)
    return ChatCompletionChunk.model_validate_json(data, strict=True)


def delta(frame: bytes) -> dict[str, Any]:
    (data,) = decoded(frame)
    (choice,) = json.loads(data)["choices"]
    found: dict[str, Any] = choice["delta"]
    return found


def test_messages_of_one_field_are_set_apart_by_a_blank_line() -> None:
    chunks = ChatChunks("chatcmpl-1", 1, "demo", reply_style(HttpSettings(commentary="both")))

    said = [delta(chunks.rich_text(0, channel, text, opens=True)) for channel, text in SAID]

    assert [each.get("content") for each in said] == ["Look.", "\n\nAgain.", None, "\n\nParis.", "\n\nIndeed."]
    assert [each.get("commentary") for each in said] == ["Look.", "\n\nAgain.", None, None, None]
    assert "content" not in delta(chunks.rich_text(1, "analysis", "Hm.", opens=True))


# Lone surrogates included: nothing a model writes may break the stream.
any_text = st.text(st.characters())


@pytest.mark.property
@given(any_text, st.integers(1, 7))
def test_any_text_comes_out_of_the_client_as_it_went_in(text: str, cut: int) -> None:
    frames = CHUNKS.text(0, "final", text) + KEEP_ALIVE + CHUNKS.text(1, "analysis", text) + DONE
    first, second, done = decoded(frames, cut)
    assert json.loads(first)["choices"][0]["delta"] == {"content": text}
    assert json.loads(second)["choices"][0]["delta"] == {"reasoning": text}
    assert done == "[DONE]"


@pytest.mark.property
@given(any_text)
def test_frames_hold_no_line_end_of_any_kind_inside(text: str) -> None:
    assert len(CHUNKS.text(0, "final", text).decode("utf-8").splitlines()) == 2


@pytest.mark.property
@given(any_text, any_text, any_text)
def test_any_tool_call_comes_out_as_it_went_in(call_id: str, name: str, arguments: str) -> None:
    opened = delta(CHUNKS.tool_call(0, 2, call_id, name))
    assert opened == {
        "tool_calls": [{"index": 2, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}]
    }
    more = delta(CHUNKS.tool_arguments(0, 2, arguments))
    assert more == {"tool_calls": [{"index": 2, "function": {"arguments": arguments}}]}


@pytest.mark.property
@given(any_text)
def test_any_model_name_comes_out_as_it_went_in(model: str) -> None:
    (data,) = decoded(ChatChunks("chatcmpl-1", 1, model, PLAIN).role(0))
    assert json.loads(data)["model"] == model


def all_chunks(chunks: ChatChunks) -> Iterator[bytes]:
    yield chunks.role(0)
    yield chunks.text(0, "analysis", "a")
    yield chunks.rich_text(0, "final", "b", opens=True, logprobs='{"content":[],"refusal":null}')
    yield chunks.tool_call(0, 0, "call_1", "f")
    yield chunks.tool_arguments(0, 0, "{}")
    yield chunks.finish(0, "stop")


def test_every_chunk_is_what_the_client_types_say() -> None:
    for frame in all_chunks(CHUNKS):
        parsed = chunk(frame)
        assert (parsed.id, parsed.object, parsed.created, parsed.model) == (
            "chatcmpl-1",
            "chat.completion.chunk",
            1_700_000_000,
            "demo",
        )


def test_usage_is_null_in_every_chunk_but_the_last_where_it_was_asked_for() -> None:
    asked = ChatChunks("chatcmpl-1", 1, "demo", PLAIN, include_usage=True)
    for frame in all_chunks(asked):
        assert json.loads(decoded(frame)[0])["usage"] is None
    for frame in all_chunks(CHUNKS):
        assert "usage" not in json.loads(decoded(frame)[0])
    last = json.loads(decoded(asked.usage({"prompt_tokens": 3}))[0])
    assert (last["choices"], last["usage"]) == ([], {"prompt_tokens": 3})


def test_the_first_chunk_says_who_speaks() -> None:
    assert delta(CHUNKS.role(3)) == {"role": "assistant", "content": "", "refusal": None}
    assert chunk(CHUNKS.role(3)).choices[0].index == 3


def test_a_chunk_that_opens_a_channel_names_it() -> None:
    frame = CHUNKS.rich_text(0, "commentary", "hm", opens=True)
    assert delta(frame) == {"commentary": "hm"}
    assert chunk(frame).choices[0].model_extra == {"channel": "commentary"}
    assert chunk(frame).choices[0].logprobs is None


def test_the_finish_chunk_has_an_empty_delta() -> None:
    frame = CHUNKS.finish(1, "length")
    assert delta(frame) == {}
    assert chunk(frame).choices[0].finish_reason == "length"


def test_keep_alive_is_a_comment() -> None:
    assert KEEP_ALIVE.startswith(b": keep-alive")
    assert decoded(KEEP_ALIVE) == []


def test_an_error_frame_is_the_error_as_data() -> None:
    body = {"error": {"message": "line\none", "type": "server_error", "param": None, "code": None}}
    assert json.loads(decoded(error_frame(body))[0]) == body
