from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from serving.answering.request_context import context_of
from serving.api.middleware.request_ids import RequestIdMiddleware

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

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


@pytest.mark.parametrize("given", [None, "mine", "not valid"])
async def test_a_server_between_that_adds_ids_of_its_own_changes_nothing(given: str | None) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(context_of(scope).request_id)
        await PlainTextResponse("x")(scope, receive, send)

    async def adding(scope: Scope, receive: Receive, send: Send) -> None:
        # As Ray Serve's RequestIdMiddleware does: the request's id, or a new one, appended to what is there.
        request_id = Headers(scope=scope).get("x-request-id", "serves own")

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("X-Request-ID", request_id)
            await send(message)

        await RequestIdMiddleware(app, lambda: "inner")(scope, receive, send_more)

    transport = httpx.ASGITransport(RequestIdMiddleware(adding, lambda: "outer"))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        reply = await client.get("/", headers={"x-request-id": given} if given else {})
    assert reply.headers.get_list("x-request-id") == seen == ["mine" if given == "mine" else "req_outer"]
