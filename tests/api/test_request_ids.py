from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Serve, Served

CHAT = "/v1/chat/completions"
HELLO: Any = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CHAT, HELLO),
        ("POST", CHAT, {**HELLO, "stream": True}),
        ("POST", CHAT, {**HELLO, "foo": 1}),
        ("POST", CHAT, {**HELLO, "model": "gpt-9"}),
        ("POST", CHAT, {**HELLO, "user": "x" * 2000}),
        ("GET", CHAT, None),
        ("OPTIONS", CHAT, None),
        ("GET", "/nowhere", None),
        ("GET", "/health", None),
        ("HEAD", "/health", None),
        ("GET", "/ready", None),
        ("GET", "/version", None),
        ("GET", "/docs", None),
        ("GET", "/openapi.json", None),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/demo", None),
    ],
)
@pytest.mark.parametrize("given", [None, "mine-1.2:3_x", "x" * 128])
async def test_every_reply_has_one_request_id(
    serve: Serve, method: str, path: str, body: Any, given: str | None
) -> None:
    async with serve(max_body_bytes=1024) as served:
        headers = {} if given is None else {"x-request-id": given}
        reply = await served.http.request(method, path, json=body, headers=headers)
    (request_id,) = reply.headers.get_list("x-request-id")
    assert request_id == given if given else request_id.startswith("req_")
    assert int(reply.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "<script>", "é", "a,b"])
async def test_an_id_that_is_not_valid_is_replaced(served: Served, given: str) -> None:
    reply = await served.http.get("/health", headers=[(b"x-request-id", given.encode())])
    (request_id,) = reply.headers.get_list("x-request-id")
    assert request_id.startswith("req_")


async def test_minted_ids_differ(served: Served) -> None:
    ids = {(await served.http.get("/health")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
