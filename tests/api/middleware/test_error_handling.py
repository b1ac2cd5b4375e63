from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from tests.http_server import Serve, Served, Until

HELLO: Any = {"role": "user", "content": "Hello!"}


async def test_openais_client_raises_its_own_errors(served: Served) -> None:
    completions = served.openai.chat.completions
    with pytest.raises(openai.BadRequestError) as bad:
        await completions.create(model="demo", messages=[HELLO], temperature=3)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    assert bad.value.request_id
    with pytest.raises(openai.BadRequestError) as unknown:
        await completions.create(
            model="demo", messages=[HELLO], extra_body={"foo": 1}, extra_headers={"x-unknown-fields": "refuse"}
        )
    assert (unknown.value.param, unknown.value.code) == ("foo", "unknown_parameter")
    with pytest.raises(openai.NotFoundError) as missing:
        await completions.create(model="gpt-9", messages=[HELLO])
    assert (missing.value.param, missing.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.NotFoundError):
        await served.openai.models.retrieve("gpt-9")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [None, 300])
async def test_what_exceeds_the_context_is_refused_with_both_numbers(serve: Serve, stream: bool, limit: int) -> None:
    async with serve(max_model_len=300) as served:
        content = "word " * (1000 if limit is None else 1)
        with pytest.raises(openai.BadRequestError) as caught:
            await served.openai.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": content}], stream=stream, max_tokens=limit
            )
    assert caught.value.code == "context_length_exceeded"
    numbers = [int(word) for word in caught.value.message.replace(";", " ").split() if word.isdecimal()]
    assert 300 in numbers
    assert any(number > 300 for number in numbers)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_is_not_ready_is_a_503_with_retry_after(serve: Serve, stream: bool) -> None:
    async with serve(start=False) as served:
        reply = await served.chat(stream=stream)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["error"]["code"] == "engine_not_ready"
        with pytest.raises(openai.InternalServerError) as caught:
            await served.openai.chat.completions.create(model="demo", messages=[HELLO], stream=stream)
    assert caught.value.status_code == 503


async def test_an_engine_that_dies_before_its_answer_is_a_500(served: Served, until: Until) -> None:
    asking = asyncio.create_task(served.chat(messages=[{"role": "user", "content": "silently"}]))
    await until(lambda: served.engine.running == 1)
    await served.engine.close()
    reply = await asking
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "engine_died"


async def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_frame(served: Served) -> None:
    stream = await served.openai.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "slowly"}], stream=True
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await served.engine.close()
    with pytest.raises(openai.APIError) as caught:
        _ = [chunk async for chunk in stream]
    assert caught.value.code == "engine_died"
    assert caught.value.body is not None


async def test_nothing_follows_an_error_frame(served: Served) -> None:
    text = ""
    body = {"model": "demo", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for piece in reply.aiter_text():
            text += piece
            await served.engine.close()
    *_, last, end = text.split("\n\n")
    assert end == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "[DONE]" not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bug_is_a_500_that_says_nothing_but_where_to_look(
    served: Served, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    served.engine.fails_after = 0
    reply = await served.chat(stream=stream)
    assert reply.status_code == 500
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in reply.text
    request_id = reply.headers["x-request-id"]
    assert request_id in error["message"]
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert request_id in record.getMessage()
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


async def test_a_bug_in_a_stream_is_an_error_frame(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.engine.fails_after = 5
    reply = await served.chat(stream=True)
    assert reply.status_code == 200
    assert "Some" in reply.text
    assert "secret" not in reply.text
    assert "[DONE]" not in reply.text
    assert json.loads(reply.text.strip().split("data: ")[-1])["error"]["code"] == "internal_error"
    assert any("secret" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_takes_too_long_is_ended(serve: Serve, until: Until, stream: bool) -> None:
    async with serve(longest_answer_s=1) as served:
        reply = await served.chat(messages=[{"role": "user", "content": "silently"}], stream=stream)
        assert reply.status_code == 504
        assert reply.json()["error"]["code"] == "answer_timeout"
        assert reply.headers["x-should-retry"] == "false"
        await until(lambda: served.engine.running == 0)


async def test_a_stream_that_takes_too_long_ends_with_an_error_frame(serve: Serve, until: Until) -> None:
    async with serve(longest_answer_s=1) as served:
        reply = await served.chat(messages=[{"role": "user", "content": "slowly"}], stream=True)
        assert reply.status_code == 200
        assert json.loads(reply.text.strip().split("data: ")[-1])["error"]["code"] == "answer_timeout"
        await until(lambda: served.engine.running == 0)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"hello", b'{"a": "\xff"}', b"[" * 5000, b'{"model": "\\ud800"}', b"\x00"]
)
async def test_a_malformed_body_is_a_400(served: Served, body: bytes) -> None:
    reply = await served.http.post("/v1/chat/completions", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1", 404, "not_found"),
        ("POST", "/v1/completions/", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("PATCH", "/health", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_told_in_json(
    served: Served, method: str, path: str, status: int, code: str
) -> None:
    reply = await served.http.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_a_wrong_method_is_answered_with_the_right_ones(served: Served) -> None:
    reply = await served.http.get("/v1/chat/completions")
    assert reply.headers["allow"] == "OPTIONS, POST"
    reply = await served.http.post("/health")
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_options_says_what_is_allowed_and_no_more(served: Served) -> None:
    preflight = {"origin": "https://example.com", "access-control-request-method": "POST"}
    reply = await served.http.options("/v1/chat/completions", headers=preflight)
    assert (reply.status_code, reply.headers["allow"], reply.content) == (204, "OPTIONS, POST", b"")
    assert not any(name.startswith("access-control") for name in reply.headers)
    assert (await served.http.options("/nowhere")).status_code == 404
