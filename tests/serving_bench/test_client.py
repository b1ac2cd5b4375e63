"""The client against a server whose every byte the test decides."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.errors import SettingsError
from serving_bench.client import Client, Timeouts
from serving_bench.outcome import CONTENT, REASONING, TOOL, Outcome, Usage
from serving_bench.workload import Api

BODY = b'{"model": "demo"}'
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "completion_tokens_details": {"reasoning_tokens": 3},
    "prompt_tokens_details": {"cached_tokens": 5},
}


@pytest.fixture
def ask(target: Any) -> Callable[..., Any]:
    """One request; its outcome."""

    async def one(port: int, *, api: Api = "chat", key: str | None = None, **timeouts: float) -> Outcome:
        client = Client(target(port), api, key=key, timeouts=Timeouts(**timeouts))
        outcome = Outcome(0, time.perf_counter())
        try:
            await client.perform(outcome, BODY)
        finally:
            client.close()
        return outcome

    return one


async def test_chunks_characters_channels_and_usage_are_counted(serve_scripted: Any, ask: Any, chat_reply: Any) -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    texts = [{"reasoning": "hm"}, {"reasoning_content": "hmm"}, {"content": "Yes"}, {"content": ""}, call]
    async with serve_scripted(chat_reply(texts, usage=USAGE)) as server:
        outcome = await ask(server.port)
    assert outcome.error is None
    assert outcome.finish == "stop"
    assert (outcome.chunks[REASONING], outcome.chunks[CONTENT], outcome.chunks[TOOL]) == (2, 1, 1)
    assert (outcome.characters[REASONING], outcome.characters[CONTENT], outcome.characters[TOOL]) == (5, 3, 3)
    assert outcome.usage == Usage(prompt=11, completion=7, reasoning=3, cached=5)
    assert len(outcome.chunk_times) == 4


async def test_times_are_those_of_the_chunks(serve_scripted: Any, ask: Any, chat_reply: Any) -> None:
    pause = 0.04
    async with serve_scripted(chat_reply([{"reasoning": "a"}, {"content": "b"}], pause=pause)) as server:
        outcome = await ask(server.port)
    assert outcome.first_text is not None
    assert outcome.first_content is not None
    assert outcome.first_text - outcome.started >= pause
    assert outcome.first_content - outcome.first_text >= pause * 0.9
    assert list(outcome.chunk_times) == [outcome.first_text, outcome.first_content]


async def test_a_reply_without_usage_is_complete(serve_scripted: Any, ask: Any, chat_reply: Any) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}])) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.usage) == (None, None)


async def test_a_server_that_never_says_done_is_complete_by_its_finish_reason(
    serve_scripted: Any, ask: Any, chat_reply: Any
) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}], usage=USAGE, done=False)) as server:
        outcome = await ask(server.port)
    assert outcome.error is None


async def test_events_may_come_a_byte_at_a_time(serve_scripted: Any, ask: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        for byte in event(choices=[{"delta": {"content": "é"}}]) + b"data: [DONE]\n\n":
            await say(bytes([byte]))

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.chunks[CONTENT], outcome.characters[CONTENT]) == (None, 1, 1)


async def test_the_end_of_the_connection_may_end_the_body(serve_scripted: Any, ask: Any, chat_reply: Any) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}]), http_1_0=True) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.chunks[CONTENT]) == (None, 1)


async def test_a_stream_that_ends_early_is_broken(serve_scripted: Any, ask: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        await say(event(choices=[{"delta": {"content": "a"}}]))

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port)
    assert outcome.error == "broken stream"
    assert outcome.chunks[CONTENT] == 1, "what came is kept"


async def test_a_connection_lost_in_mid_stream_is_broken(serve_scripted: Any, ask: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        await say(event(choices=[{"delta": {"content": "a"}, "finish_reason": "stop"}]))
        raise ConnectionError

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.detail) == ("broken stream", "the server closed the connection")


@pytest.mark.parametrize("bad", [b"data: {\n\n", b'data: {"choices": 7}\n\n', b'data: {"choices": [{"delta": 1}]}\n\n'])
async def test_a_chunk_that_is_no_chunk_ends_the_request(serve_scripted: Any, ask: Any, bad: bytes) -> None:
    async def answer(request: Any, say: Any) -> None:
        await say(bad)
        await asyncio.sleep(60)

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port)
    assert outcome.error == "bad chunk"


async def test_an_error_in_the_stream_is_told_in_the_servers_words(serve_scripted: Any, ask: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        await say(event(error={"message": "The engine was lost.", "type": "server_error"}))

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.detail) == ("error in stream", "The engine was lost.")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error": {"message": "Too many"}}', "Too many"),
        (b'{"error": "Too many"}', "Too many"),
        (b'{"detail": "x"}', "{'detail': 'x'}"),
        (b"<html>busy\n</html>", "<html>busy </html>"),
        (b"", ""),
    ],
)
async def test_refusals_are_counted_by_status(serve_scripted: Any, ask: Any, body: bytes, detail: str) -> None:
    async with serve_scripted(None, status=429, error=body) as server:
        outcome = await ask(server.port)
    assert (outcome.error, outcome.detail) == ("status 429", detail)


async def test_nobody_listening_is_told_apart(ask: Any, serve_scripted: Any) -> None:
    async with serve_scripted(None) as server:
        pass
    outcome = await ask(server.port)
    assert outcome.error == "cannot connect"


async def test_a_reply_that_takes_too_long_is_given_up(serve_scripted: Any, ask: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        await asyncio.sleep(60)

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port, request=0.1)
    assert outcome.error == "timeout"
    assert time.perf_counter() - outcome.started < 30


async def test_what_is_not_http_is_a_broken_stream(ask: Any) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read(1000)
        writer.close()

    listening = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with listening:
        outcome = await ask(listening.sockets[0].getsockname()[1])
    assert outcome.error == "broken stream"


async def test_connections_are_used_again(serve_scripted: Any, target: Any, chat_reply: Any) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}])) as server:
        client = Client(target(server.port), "chat")
        for number in range(5):
            outcome = Outcome(number, time.perf_counter())
            await client.perform(outcome, BODY)
            assert outcome.error is None
        client.close()
    assert (len(server.requests), server.connections) == (5, 1)


async def test_a_connection_that_the_server_closed_meanwhile_costs_no_request(
    serve_scripted: Any, target: Any, chat_reply: Any
) -> None:
    async with serve_scripted(chat_reply([{"content": "a"}]), keep_alive=False) as server:
        client = Client(target(server.port), "chat")
        for number in range(5):
            outcome = Outcome(number, time.perf_counter())
            await client.perform(outcome, BODY)
            assert outcome.error is None, outcome.detail
        client.close()
    assert len(server.requests) == 5


async def test_a_cancelled_request_drops_its_connection(serve_scripted: Any, target: Any) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def answer(request: Any, say: Any) -> None:
        begun.set()
        try:
            while True:
                await say(b": still here\n\n")
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with serve_scripted(answer) as server:
        client = Client(target(server.port), "chat")
        asking = asyncio.create_task(client.perform(Outcome(0, time.perf_counter()), BODY))
        async with asyncio.timeout(10):
            await begun.wait()
            asking.cancel()
            await closed.wait()
        client.close()


async def test_the_key_goes_into_a_header_and_nowhere_else(serve_scripted: Any, ask: Any, chat_reply: Any) -> None:
    async with serve_scripted(chat_reply([])) as server:
        await ask(server.port, key="sk-very-secret")
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer sk-very-secret"
    assert request.body == json.loads(BODY)
    assert request.path == "/v1/chat/completions"


@pytest.mark.parametrize("key", ["a\r\nx-evil: 1", "with blank", "ключ"])
def test_a_key_that_no_header_takes_is_refused_without_showing_it(target: Any, key: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Client(target(1), "chat", key=key)
    assert key not in str(raised.value)


class TestWholeReplies:
    async def test_chat(self, serve_scripted: Any, ask: Any) -> None:
        message = {"role": "assistant", "content": "Yes.", "reasoning": "Hm", "tool_calls": []}
        reply = {"choices": [{"message": message, "finish_reason": "length"}], "usage": USAGE}

        async def answer(request: Any, say: Any) -> None:
            await say(json.dumps(reply).encode())

        async with serve_scripted(answer, content_type="application/json") as server:
            outcome = await ask(server.port)
        assert (outcome.error, outcome.finish) == (None, "length")
        assert (outcome.characters[CONTENT], outcome.characters[REASONING]) == (4, 2)
        assert (outcome.first_text, len(outcome.chunk_times)) == (None, 0), "there is no first token in a whole reply"

    async def test_responses(self, serve_scripted: Any, ask: Any) -> None:
        reply = {
            "status": "completed",
            "error": None,
            "output": [
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "Yes."}]},
                {"type": "function_call", "name": "f", "arguments": "{}"},
            ],
            "usage": {"input_tokens": 3, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 2}},
        }

        async def answer(request: Any, say: Any) -> None:
            await say(json.dumps(reply).encode())

        async with serve_scripted(answer, content_type="application/json") as server:
            outcome = await ask(server.port, api="responses")
        assert outcome.error is None
        assert outcome.characters == [4, 2, 0, 3]
        assert outcome.usage == Usage(prompt=3, completion=9, reasoning=2)

    @pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
    async def test_what_is_no_reply(self, serve_scripted: Any, ask: Any, body: bytes) -> None:
        async def answer(request: Any, say: Any) -> None:
            await say(body)

        async with serve_scripted(answer, content_type="application/json") as server:
            outcome = await ask(server.port)
        assert outcome.error == "bad chunk"


class TestResponsesStreams:
    async def test_events(self, serve_scripted: Any, ask: Any, event: Any) -> None:
        async def answer(request: Any, say: Any) -> None:
            await say(event(type="response.created", response={"status": "in_progress", "output": []}))
            await say(event(type="response.reasoning_text.delta", output_index=0, delta="Hm"))
            await say(
                event(
                    type="response.output_item.added", output_index=1, item={"type": "message", "phase": "commentary"}
                )
            )
            await say(event(type="response.output_text.delta", output_index=1, delta="Let me"))
            await say(
                event(type="response.output_item.added", output_index=2, item={"type": "function_call", "name": "f"})
            )
            await say(event(type="response.function_call_arguments.delta", output_index=2, delta="{}"))
            await say(event(type="response.output_text.delta", output_index=3, delta="Yes."))
            usage = {"input_tokens": 3, "output_tokens": 9, "input_tokens_details": {"cached_tokens": 1}}
            await say(event(type="response.completed", response={"status": "completed", "usage": usage}))

        async with serve_scripted(answer) as server:
            outcome = await ask(server.port, api="responses")
        assert outcome.error is None
        assert outcome.characters == [4, 2, 6, 3]
        assert outcome.usage == Usage(prompt=3, completion=9, reasoning=None, cached=1)

    @pytest.mark.parametrize(
        "last",
        [
            {"type": "error", "message": "Lost."},
            {"type": "response.failed", "response": {"status": "failed", "error": {"message": "Lost."}}},
        ],
    )
    async def test_failures(self, serve_scripted: Any, ask: Any, event: Any, last: dict[str, Any]) -> None:
        async def answer(request: Any, say: Any) -> None:
            await say(event(**last))

        async with serve_scripted(answer) as server:
            outcome = await ask(server.port, api="responses")
        assert (outcome.error, outcome.detail) == ("error in stream", "Lost.")


async def test_completions(serve_scripted: Any, ask: Any, event: Any) -> None:
    async def answer(request: Any, say: Any) -> None:
        await say(event(choices=[{"index": 0, "text": "Yes", "finish_reason": None}]))
        await say(event(choices=[{"index": 0, "text": "", "finish_reason": "stop"}], usage=None))
        await say(b"data: [DONE]\n\n")

    async with serve_scripted(answer) as server:
        outcome = await ask(server.port, api="completions")
    assert (outcome.error, outcome.chunks[CONTENT], outcome.finish) == (None, 1, "stop")
    assert server.requests[0].path == "/v1/completions"
