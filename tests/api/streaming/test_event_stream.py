from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from serving.answering.request_context import RequestContext, attach_context
from serving.api.streaming.event_stream import EventStream
from serving.engine.scripted import ScriptLine
from serving.errors import OverloadedError

if TYPE_CHECKING:
    from tests.http_server import Serve


async def never_leaves() -> Message:
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


class Receiver:
    """An ASGI send that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def scope() -> Scope:
    made: Scope = {"type": "http"}
    attach_context(made, RequestContext("r", Headers()))
    return made


def stream_of(events: AsyncGenerator[bytes], **options: Any) -> EventStream[bytes]:
    defaults: dict[str, Any] = {"headers": {}, "request_id": "r", "keep_alive_s": 60, "longest_s": 60}
    return EventStream(events, bytes, **{**defaults, **options})


async def play(events: AsyncGenerator[bytes], **options: Any) -> Receiver:
    receiver = Receiver()
    await stream_of(events, **options)(scope(), never_leaves, receiver.send)
    return receiver


async def test_frames_go_out_one_by_one_before_done() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield b"a"
        yield b""
        yield b"b"

    receiver = await play(events())
    assert [message["type"] for message in receiver.messages] == ["http.response.start", *["http.response.body"] * 3]
    assert [message["body"] for message in receiver.messages[1:]] == [b"a", b"b", b"data: [DONE]\n\n"]
    assert [message["more_body"] for message in receiver.messages[1:]] == [True, True, False]


async def test_an_error_before_the_first_event_is_raised_with_nothing_sent() -> None:
    async def events() -> AsyncGenerator[bytes]:
        for frame in (b"", b"a"):
            if not frame:
                raise OverloadedError("full")
            yield frame

    receiver = Receiver()
    with pytest.raises(OverloadedError):
        await stream_of(events())(scope(), never_leaves, receiver.send)
    assert receiver.messages == []


async def test_silence_is_filled_without_disturbing_what_comes() -> None:
    waited = 0

    async def events() -> AsyncGenerator[bytes]:
        nonlocal waited
        yield b"a"
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            waited = -1
            raise
        waited += 1
        yield b"b"

    receiver = await play(events(), keep_alive_s=0.05)
    assert waited == 1
    first, *comments, second, done = [message["body"] for message in receiver.messages[1:]]
    assert (first, second, done) == (b"a", b"b", b"data: [DONE]\n\n")
    assert 2 <= len(comments) <= 20
    assert set(comments) == {b": keep-alive\n\n"}


async def test_a_stream_that_is_silent_from_the_start_begins_with_a_comment() -> None:
    async def events() -> AsyncGenerator[bytes]:
        await asyncio.sleep(0.15)
        yield b"a"

    receiver = await play(events(), keep_alive_s=0.05)
    assert receiver.body.startswith(b": keep-alive\n\n")
    assert receiver.body.endswith(b"adata: [DONE]\n\n")


async def test_a_stream_that_is_not_silent_has_no_comments() -> None:
    async def events() -> AsyncGenerator[bytes]:
        for _ in range(30):
            await asyncio.sleep(0.02)
            yield b"a"

    assert b"keep-alive" not in (await play(events(), keep_alive_s=0.4)).body


async def test_a_comment_never_cuts_into_a_frame_that_a_slow_client_takes() -> None:
    sending = 0

    async def events() -> AsyncGenerator[bytes]:
        yield b"a"
        yield b"b"

    async def slow_send(message: Message) -> None:
        nonlocal sending
        sending += 1
        assert sending == 1
        await asyncio.sleep(0.1)
        sending -= 1

    await stream_of(events(), keep_alive_s=0.02)(scope(), never_leaves, slow_send)
    assert sending == 0


async def test_a_client_that_never_reads_is_given_up_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.streaming.event_stream._PARTING_S", 0.05)
    closed = False

    async def events() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            yield b"a"
        finally:
            closed = True

    async def stuck_send(message: Message) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ClientDisconnect):
        await stream_of(events(), longest_s=0.05)(scope(), never_leaves, stuck_send)
    assert closed


async def test_a_send_that_fails_means_the_client_left() -> None:
    closed = False

    async def events() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            yield b"a"
        finally:
            closed = True

    async def broken_send(message: Message) -> None:
        raise OSError("broken pipe")

    with pytest.raises(ClientDisconnect):
        await stream_of(events())(scope(), never_leaves, broken_send)
    assert closed


async def test_no_task_outlives_the_stream() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield b"a"

    await play(events(), keep_alive_s=0.01)
    assert len(asyncio.all_tasks()) == 1


async def test_a_silent_engine_gets_comments_that_the_openai_client_ignores(serve: Serve) -> None:
    line = ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>", tokens_per_step=100, step_ms=250)
    async with serve(line, keep_alive_s=0.05) as served:
        raw = (await served.chat(stream=True)).text
        assert raw.count(": keep-alive\n\n") >= 2
        async with served.openai.chat.completions.stream(
            model="demo", messages=[{"role": "user", "content": "Hello!"}]
        ) as events:
            completion = await events.get_final_completion()
    assert completion.choices[0].message.content == "Hi"


async def test_the_role_is_sent_with_the_first_token_before_there_is_text(serve: Serve) -> None:
    # Header tokens come one in 50 ms: a role that waited for text would come with the fourth.
    line = ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>", step_ms=50)
    async with serve(line) as served:
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}
        async with served.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            async for piece in reply.aiter_text():
                assert '"role"' in piece
                assert "Hi" not in piece
                break
        assert served.engine.deltas_taken < 3
