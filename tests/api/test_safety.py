"""What a hostile or broken client may send, and what browsers are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

HELLO = {"role": "user", "content": "Hello!"}


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nothing", "/docs", "/openapi.json"])
async def test_every_reply_has_security_headers_once(serve: Any, path: str) -> None:
    async with serve() as served:
        reply = await served.http.get(path)

    for name in ("x-content-type-options", "referrer-policy", "content-security-policy", "cache-control"):
        assert len(reply.headers.get_list(name)) == 1, name


async def test_a_stream_keeps_its_own_caching_rule(serve: Any) -> None:
    async with serve() as served:
        reply = await served.chat(stream=True)

    assert reply.headers.get_list("cache-control") == ["no-cache"]


async def test_other_sites_pages_may_read_nothing(serve: Any) -> None:
    async with serve() as served:
        headers = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
        replies = [
            await served.http.get("/v1/models", headers=headers),
            await served.http.options("/v1/chat/completions", headers=headers),
        ]

    for reply in replies:
        assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_headers_have_a_limit(serve: Any) -> None:
    async with serve(max_header_bytes=2048) as served:
        reply = await served.http.get("/v1/models", headers={"x-junk": "x" * 3000})

    assert (reply.status_code, reply.json()["error"]["code"]) == (431, "headers_too_large")


async def test_messages_have_a_limit(serve: Any) -> None:
    async with serve(max_messages=3) as served:
        reply = await served.chat(messages=[HELLO] * 4)
        fits = await served.chat(messages=[HELLO] * 3)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages")
    assert fits.status_code == 200


async def test_deep_json_is_refused_and_not_climbed_into(serve: Any) -> None:
    async with serve() as served:
        deep = '{"model": "demo", "messages": ' + "[" * 100_000 + "]" * 100_000 + "}"
        reply = await served.http.post("/v1/chat/completions", content=deep)

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_body_that_trickles_in_is_cut_off(serve: Any) -> None:
    async with serve(longest_body_s=0.3) as served:
        reader, writer = await asyncio.open_connection(served.host, served.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        reply = b""
        while not reply:
            writer.write(b" ")
            await writer.drain()
            try:
                async with asyncio.timeout(0.05):
                    reply = await reader.read(65536)
            except TimeoutError:
                continue
        writer.close()
        engine_requests = len(served.engine.requests)

    assert reply.startswith(b"HTTP/1.1 408")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
    assert engine_requests == 0


async def test_an_answer_may_take_longer_than_a_body(serve: Any, until: Any) -> None:
    async with serve(longest_body_s=0.1) as served:
        slow = asyncio.create_task(served.chat(messages=[{"role": "user", "content": "slowly"}], max_tokens=100))
        reply = await slow

    assert reply.status_code == 200
