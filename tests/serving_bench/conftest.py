"""Servers to measure: one whose every byte is decided by the test, and our own on the scripted engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from serving_bench.runner import Runner
from serving_bench.session import Server
from serving_bench.target import Target
from tests.http_server import listening

Say = Callable[[bytes], Awaitable[None]]
"""Sends bytes of a body, as one HTTP chunk."""


@dataclass
class Request:
    """What has come: the path, the headers by lower-case name, and the body as JSON."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


Answer = Callable[[Request, Say], Awaitable[None]]
"""Writes the body of one reply; the server sends the head before and the end after. ConnectionError hangs up."""


@dataclass
class Scripted:
    """A server that lets `answer` speak; `status` and `headers` other than 200's make whole replies of `error`."""

    answer: Answer
    status: int = 200
    error: bytes = b""
    content_type: str = "text/event-stream"
    keep_alive: bool = True
    http_1_0: bool = False
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        try:
            while await self._one(number, reader, writer) and self.keep_alive:
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # asyncio's streams log a handler that was cancelled
        finally:
            writer.close()

    async def _one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        request = Request(lines[0].split(" ")[1], headers, body, number)
        self.requests.append(request)
        if self.status != 200:
            writer.write(b"HTTP/1.1 %d Because\r\ncontent-length: %d\r\n\r\n" % (self.status, len(self.error)))
            writer.write(self.error)
            return True
        if self.http_1_0:
            writer.write(f"HTTP/1.0 200 OK\r\ncontent-type: {self.content_type}\r\n\r\n".encode())
            await self.answer(request, self._sayer(writer, b"%s"))
            return False
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {self.content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        await self.answer(request, self._sayer(writer, None))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    @staticmethod
    def _sayer(writer: asyncio.StreamWriter, plain: bytes | None) -> Say:
        async def say(data: bytes) -> None:
            writer.write(data if plain else b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()

        return say


class ServeScripted(Protocol):
    def __call__(self, answer: Answer, **fields: Any) -> contextlib.AbstractAsyncContextManager[Scripted]: ...


@pytest.fixture
def serve_scripted() -> ServeScripted:
    return _serve_scripted


@contextlib.asynccontextmanager
async def _serve_scripted(answer: Answer, **fields: Any) -> AsyncIterator[Scripted]:
    server = Scripted(answer, **fields)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks)


class Target_(Protocol):
    def __call__(self, port: int, name: str = "target") -> Target: ...


@pytest.fixture
def target() -> Target_:
    return lambda port, name="target": Target(name, "http", "127.0.0.1", port, "/v1")


@pytest.fixture
def server() -> Callable[[int, str], Server]:
    return lambda port, name: Server(Target(name, "http", "127.0.0.1", port, "/v1"), "demo")


@pytest.fixture
def event() -> Callable[..., bytes]:
    """A server-sent event of a JSON object."""

    def frame(**fields: Any) -> bytes:
        return b"data: " + json.dumps(fields).encode() + b"\n\n"

    return frame


@pytest.fixture
def chat_reply(event: Callable[..., bytes]) -> Callable[..., Answer]:
    """An answer of chunks with some text each, usage and [DONE]; `pause` seconds before each chunk."""

    def make(
        texts: Sequence[dict[str, Any]], *, pause: float = 0.0, usage: dict[str, Any] | None = None, done: bool = True
    ) -> Answer:
        async def answer(request: Request, say: Say) -> None:
            await say(event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]))
            for text in texts:
                await asyncio.sleep(pause)
                await say(event(choices=[{"index": 0, "delta": text, "finish_reason": None}]))
            await say(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
            if usage is not None:
                await say(event(choices=[], usage=usage))
            if done:
                await say(b"data: [DONE]\n\n")

        return answer

    return make


class Quiet:
    """Progress that nobody sees, and a chance to act while a run is under way."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.on_begin: Callable[[str, Runner], None] = lambda what, runner: None

    def begin(self, what: str, runner: Runner, collector: object, load: object) -> None:
        self.begun.append(what)
        self.on_begin(what, runner)

    def end(self) -> None:
        pass


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition; fails after 20 s."""

    async def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail("did not happen within 20 s")
            await asyncio.sleep(0.001)

    return wait


ServeApp = Callable[..., contextlib.AbstractAsyncContextManager[int]]


@pytest.fixture
def serve_app() -> ServeApp:
    """Our whole API on the scripted engine; gives the port."""
    return _serve_app


@contextlib.asynccontextmanager
async def _serve_app(completion: str, *, step_ms: float = 0.0) -> AsyncIterator[int]:
    engine = ScriptedEngine(Script((ScriptLine(completion=completion, step_ms=step_ms),)), model="demo")
    await engine.start()
    settings = Settings(models={"demo": ModelSettings()})
    async with Parts.in_process(settings, {"demo": engine}) as parts, listening(create_app(parts)) as port:
        yield port
    await engine.close()
