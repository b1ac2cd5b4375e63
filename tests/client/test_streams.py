from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from serving.client import (
    Answer,
    ChannelEnd,
    ChannelStart,
    ChatEvent,
    TextDelta,
    ToolCall,
    Usage,
    astream_chat,
    stream_chat,
)
from serving.errors import ClientError

if TYPE_CHECKING:
    from tests.client.conftest import Server, Until

HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {"role": "user", "content": "How is the weather?"}
TOOL: Any = {"type": "function", "function": {"name": "get_weather"}}


def read(server: Server, messages: list[Any], **fields: Any) -> list[ChatEvent]:
    with stream_chat(server.openai, messages, model="demo", **fields) as events:
        return list(events)


def without_deltas(events: list[ChatEvent]) -> list[ChatEvent]:
    return [event for event in events if not isinstance(event, TextDelta)]


def test_channels_start_grow_and_end(server: Server) -> None:
    events = read(server, [HELLO])
    *channels, usage = without_deltas(events)
    assert channels == [
        ChannelStart("analysis"),
        ChannelEnd("analysis", "Somebody greets me."),
        ChannelStart("final"),
        ChannelEnd("final", "Hello there!"),
    ]
    assert isinstance(usage, Usage)
    assert usage.finish_reason == "stop"
    assert usage.prompt_tokens == len(server.engine.prompts[0])
    assert usage.reasoning_tokens == 6
    final = [event.text for event in events if isinstance(event, TextDelta) and event.channel == "final"]
    assert "".join(final) == "Hello there!"
    assert len(final) > 1


async def test_the_asynchronous_client_gives_the_same(server: Server) -> None:
    async with (
        openai.AsyncOpenAI(base_url=server.url, api_key="none") as client,
        astream_chat(client, [HELLO], model="demo") as events,
    ):
        assert [event async for event in events] == read(server, [HELLO])


def test_a_call_comes_whole_and_its_answer_can_be_sent_back(server: Server) -> None:
    answer = Answer()
    for event in read(server, [WEATHER], tools=[TOOL]):
        answer.add(event)
    (call,) = answer.tool_calls
    assert call == ToolCall(call.id, "get_weather", '{"city": "Zürich"}')
    assert answer.usage is not None
    assert answer.usage.finish_reason == "tool_calls"
    assert answer.texts["commentary"] == "Let me look."
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    events = read(server, [WEATHER, answer.message(), result, HELLO], tools=[TOOL])
    assert isinstance(events[-1], Usage)


def test_deltas_can_be_taken_in_larger_portions(server: Server) -> None:
    one_by_one, buffered = read(server, [HELLO]), read(server, [HELLO], buffer_tokens=4)
    assert without_deltas(buffered) == without_deltas(one_by_one)
    texts = [event.text for event in buffered if isinstance(event, TextDelta) and event.channel == "analysis"]
    assert len(texts) == 2  # of six tokens
    assert "".join(texts) == "Somebody greets me."


def test_fields_of_the_server_are_passed_on(server: Server) -> None:
    events = read(server, [HELLO], include_reasoning=False, reasoning_effort="high")
    assert [event.channel for event in events if isinstance(event, ChannelStart)] == ["final"]


def test_leaving_stops_the_model(server: Server, until: Until) -> None:
    slowly: Any = {"role": "user", "content": "slowly"}
    with stream_chat(server.openai, [slowly], model="demo") as events:
        next(events)
        assert server.engine.running == 1
    until(lambda: server.engine.running == 0)


def test_several_choices_are_refused(server: Server) -> None:
    with pytest.raises(ClientError, match="n=1"):
        read(server, [HELLO], n=2)


def test_errors_are_the_clients_own(server: Server) -> None:
    with pytest.raises(openai.NotFoundError), stream_chat(server.openai, [HELLO], model="nope"):
        pass


CHUNK = '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%s}]}'


@pytest.fixture
def other() -> Iterator[Any]:
    """A server of another make, which sends what it is given."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def client_of(*deltas: str, last: str) -> openai.OpenAI:
            body = "".join(f"data: {CHUNK % delta}\n\n" for delta in deltas) + last
            reply = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}"

            def answer() -> None:
                connection, _ = sock.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply.encode())
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass  # closed with bytes unread, a connection is reset

            threading.Thread(target=answer, daemon=True).start()
            return openai.OpenAI(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", api_key="none", max_retries=0)

        yield client_of


def test_another_servers_name_for_reasoning_is_understood(other: Any) -> None:
    end = CHUNK.replace('"delta":%s', '"delta":{},"finish_reason":"stop"')
    deltas = ['{"reasoning":"Hm","reasoning_content":"Hm"}', '{"content":"Hi"}']
    with (
        other(*deltas, last=f"data: {end}\n\ndata: [DONE]\n\n") as client,
        stream_chat(client, [HELLO], model="m") as events,
    ):
        assert list(events) == [
            ChannelStart("analysis"),
            TextDelta("analysis", "Hm"),
            ChannelEnd("analysis", "Hm"),
            ChannelStart("final"),
            TextDelta("final", "Hi"),
            ChannelEnd("final", "Hi"),
            Usage("stop"),
        ]


def test_a_stream_that_breaks_off_is_an_error(other: Any) -> None:
    with (
        other('{"content":"Hi"}', last="") as client,
        stream_chat(client, [HELLO], model="m") as events,
        pytest.raises(ClientError, match="broke off"),
    ):
        list(events)


def test_importing_the_client_imports_nothing_of_the_server() -> None:
    code = (
        "import sys, serving.client;"
        "print([m for m in ('fastapi', 'starlette', 'ray', 'vllm', 'torch', 'openai_harmony') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_openai_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['openai'] = None; import serving.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'gpt-oss-serving[client]', or pip install openai")
