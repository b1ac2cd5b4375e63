"""What happens when the client goes away, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from serving.api.streaming.disconnect import until_disconnect

if TYPE_CHECKING:
    from tests.http_server import Served, Until


def request_bytes(content: str, **fields: Any) -> bytes:
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": content}], **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("content", "fields", "first"),
    [
        pytest.param("slowly", {"stream": True}, b"data: ", id="in a stream"),
        pytest.param("silently", {"stream": True}, None, id="before a stream's first token"),
        pytest.param("silently", {}, None, id="before a whole answer"),
        pytest.param("slowly", {"n": 8, "stream": True}, b"data: ", id="in a stream of several choices"),
    ],
)
async def test_the_engine_stops_within_100_ms_of_the_client_leaving(
    served: Served, until: Until, content: str, fields: dict[str, Any], first: bytes | None
) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(request_bytes(content, **fields))
    await until(lambda: served.engine.running == fields.get("n", 1))
    if first is not None:
        await reader.readuntil(first)
    writer.close()
    assert await until(lambda: served.engine.running == 0) < 0.1
    await writer.wait_closed()


async def test_a_client_that_resets_its_connection_has_left(served: Served, until: Until) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(request_bytes("slowly", stream=True))
    await reader.readuntil(b"data: ")
    linger_none = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    writer.transport.abort()
    assert await until(lambda: served.engine.running == 0) < 0.1


async def test_the_openai_client_stops_the_engine_by_closing_its_stream(served: Served, until: Until) -> None:
    stream = await served.openai.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "slowly"}], stream=True
    )
    async for _ in stream:
        break
    assert served.engine.running == 1
    await stream.close()
    assert await until(lambda: served.engine.running == 0) < 0.1


async def stalled_at(served: Served) -> int:
    """How many deltas were taken when for 150 ms no more were."""
    same, taken = 0, served.engine.deltas_taken
    deadline = time.monotonic() + 30
    while same < 3:
        assert time.monotonic() < deadline, "it never stalled"
        await asyncio.sleep(0.05)
        same = same + 1 if taken == served.engine.deltas_taken else 0
        taken = served.engine.deltas_taken
    return taken


async def test_a_client_that_does_not_read_slows_the_engine_instead_of_filling_memory(
    served: Served, until: Until
) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((served.host, served.port))
        sock.sendall(request_bytes("endlessly", stream=True))
        await until(lambda: served.engine.running == 1)
        taken = await stalled_at(served)
        assert served.engine.running == 1
        assert 0 < taken < 25_000
    assert await until(lambda: served.engine.running == 0) < 0.1


async def test_leaving_clients_are_no_errors(served: Served, until: Until, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(request_bytes("slowly", stream=True))
    await until(lambda: served.engine.running == 1)
    writer.close()
    await until(lambda: served.engine.running == 0)
    await writer.wait_closed()
    assert (await served.chat()).status_code == 200
    assert [record for record in caplog.records if record.name.startswith("serving")] == []


class Client:
    """An ASGI receive whose client leaves when told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_that_ends_first_is_returned_or_raised() -> None:
    async def work() -> int:
        return 7

    async def failing() -> int:
        raise ValueError("no")

    assert await until_disconnect(Client().receive, work()) == 7
    with pytest.raises(ValueError, match="no"):
        await until_disconnect(Client().receive, failing())


async def test_work_is_cancelled_and_awaited_when_the_client_leaves() -> None:
    client, ended = Client(), False

    async def work() -> None:
        nonlocal ended
        client.gone.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended = True

    with pytest.raises(ClientDisconnect):
        await until_disconnect(client.receive, work())
    assert ended


async def test_work_is_cancelled_when_its_caller_is() -> None:
    started, ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    caller = asyncio.create_task(until_disconnect(Client().receive, work()))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended
    assert len(asyncio.all_tasks()) == 1
