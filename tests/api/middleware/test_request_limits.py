from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

LIMIT = 100_000
CHAT = "/v1/chat/completions"


def body_of(size: int) -> bytes:
    empty = b'{"model": "demo", "messages": [{"role": "user", "content": ""}]}'
    return empty.replace(b'""', b'"' + b"x " * ((size - len(empty)) // 2) + b" " * ((size - len(empty)) % 2) + b'"')


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 10_000):
        yield body[begin : begin + 10_000]


async def test_a_body_of_exactly_the_limit_is_read(serve: Serve) -> None:
    async with serve(max_body_bytes=LIMIT) as served:
        assert (await served.http.post(CHAT, content=body_of(LIMIT))).status_code == 200
        assert (await served.http.post(CHAT, content=in_chunks(body_of(LIMIT)))).status_code == 200


async def test_a_larger_body_is_refused_by_its_declared_length(serve: Serve) -> None:
    async with serve(max_body_bytes=LIMIT) as served:
        reply = await served.http.post(CHAT, content=body_of(LIMIT + 1))
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"
    assert str(LIMIT) in reply.json()["error"]["message"]


async def test_a_larger_body_without_declared_length_is_refused_by_counting(serve: Serve) -> None:
    async with serve(max_body_bytes=LIMIT) as served:
        reply = await served.http.post(CHAT, content=in_chunks(body_of(LIMIT + 1)))
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"


async def test_the_default_limit_refuses_ten_megabytes(served: Served) -> None:
    assert (await served.http.post(CHAT, content=body_of(10_000_000))).status_code == 413
    # The connection, or a new one, serves on.
    assert (await served.chat()).status_code == 200
