"""Real servers on real sockets: this application, other copies of it as backends, and small ones with odd dialects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.app import create_app
from serving.backends.registry import Backends
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts, Platform
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from serving.store.registrations import Registrations
from serving.tenancy.tenancy import Tenancy

HARMONY = (
    "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
)


@dataclass
class House:
    """A running server of ours; `openai` does not retry."""

    port: int
    engine: ScriptedEngine
    http: httpx.AsyncClient
    openai: AsyncOpenAI
    backends: Backends
    tenancy: Tenancy
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def ask(self, model: str, text: str = "Hello!", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return await self.http.post("/v1/chat/completions", json=body)

    async def metric(self, name: str, **labels: str) -> float:
        text = (await self.http.get("/metrics")).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and all(w in line for w in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class OpenHouse(Protocol):
    def __call__(
        self,
        *lines: ScriptLine,
        name: str = "demo",
        fallback: Sequence[str] = (),
        servers: Mapping[str, Any] | None = None,
        start: bool = True,
        registrations: Registrations | None = None,
        patience: Mapping[str, Any] | None = None,
        section: Mapping[str, Any] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[House]: ...


@pytest.fixture
def house() -> OpenHouse:
    return _house


@contextlib.asynccontextmanager
async def _house(
    *lines: ScriptLine,
    name: str = "demo",
    fallback: Sequence[str] = (),
    servers: Mapping[str, Any] | None = None,
    start: bool = True,
    registrations: Registrations | None = None,
    patience: Mapping[str, Any] | None = None,
    section: Mapping[str, Any] | None = None,
    further: Mapping[str, Any] | None = None,
) -> AsyncIterator[House]:
    line = ScriptLine(completion=HARMONY.format(thought="Somebody greets me.", answer="Hello there!"))
    engine = ScriptedEngine(Script(lines or (line,)), model=name, max_model_len=131072)
    if start:
        await engine.start()
    settings = Settings(
        models={name: ModelSettings(source="demo", fallback=tuple(fallback))},
        backends={
            "servers": dict(servers or {}),
            "patience": {"backoff_s": 0.001, "check_every_s": 60, **(patience or {})},
            **(section or {}),
        },
        **(further or {}),
    )
    own = Platform.in_process(settings, {name: engine})
    platform = replace(own, backend_registrations=registrations or own.backend_registrations)
    async with (
        Parts.open(settings, {name: engine}, platform) as parts,
        _listening(create_app(parts)) as (port, server),
    ):
        base = f"http://127.0.0.1:{port}"
        async with (
            httpx.AsyncClient(base_url=base, timeout=30, verify=False) as plain,
            DefaultAsyncHttpxClient(verify=False) as transport,
            AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, http_client=transport) as client,
        ):
            yield House(port, engine, plain, client, parts.backends, parts.tenancy, server)
    await engine.close()


@dataclass
class OddDialect:
    """A small server that answers POST /v1/chat/completions with given chunks, and keeps what it was asked.

    `status` other than 200 is answered to the next `failures` requests, with `headers`. `pause_s` before each chunk.
    """

    models: tuple[str, ...]
    deltas: Sequence[Mapping[str, Any]]
    finish: str | None = "stop"
    usage: Mapping[str, Any] | None = None
    status: int = 500
    failures: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    sent_headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/chat/completions", self._answer, methods=["POST"]),
            ]
        )

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.sent_headers.append(dict(request.headers))
        if self.failures:
            self.failures -= 1
            return JSONResponse({"error": {"message": "not now"}}, status_code=self.status, headers=self.headers)
        return StreamingResponse(self._chunks(), media_type="text/event-stream")

    async def _chunks(self) -> AsyncIterator[str]:
        for delta in self.deltas:
            await asyncio.sleep(self.pause_s)
            yield _event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if self.finish is not None:
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]})
        if self.usage is not None:
            yield _event({"choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"


def _event(chunk: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def ollama_dialect(**fields: Any) -> OddDialect:
    """Reasoning in `reasoning`; calls whole, in one piece and all of index 0; model names with a tag."""
    call = {"function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}, "index": 0}
    deltas = (
        {"role": "assistant", "content": "", "reasoning": "Weather, "},
        {"content": "", "reasoning": "twice."},
        {"content": "", "tool_calls": [{"id": "call_1", **call}]},
        {"content": "", "tool_calls": [{"id": "call_2", **call}]},
    )
    return OddDialect(**{"models": ("gpt-oss:20b",), "deltas": deltas, "finish": "tool_calls", **fields})


def lmstudio_dialect(**fields: Any) -> OddDialect:
    """Reasoning in `reasoning_content`; usage in a last chunk."""
    deltas = ({"reasoning_content": "Short."}, {"content": "Hel"}, {"content": "lo"})
    usage = {"prompt_tokens": 70, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    return OddDialect(**{"models": ("openai/gpt-oss-20b",), "deltas": deltas, "usage": usage, **fields})


def think_tag_dialect(**fields: Any) -> OddDialect:
    """Reasoning inside the text, its tags cut anywhere."""
    deltas = tuple(
        {"content": piece} for piece in ("<th", "ink>\nHm", "m.\n</thi", "nk>\n", "\nHello", " <think> there")
    )
    return OddDialect(**{"models": ("gpt-oss-20b",), "deltas": deltas, **fields})


Dialects = Mapping[str, Callable[..., OddDialect]]
Running = Callable[[OddDialect], AbstractAsyncContextManager[OddDialect]]


@pytest.fixture
def dialects() -> Dialects:
    return {"ollama": ollama_dialect, "lmstudio": lmstudio_dialect, "think": think_tag_dialect, "any": OddDialect}


@pytest.fixture
def running() -> Running:
    return _running


@contextlib.asynccontextmanager
async def _running(dialect: OddDialect) -> AsyncIterator[OddDialect]:
    async with _listening(dialect.app()) as (port, _):
        dialect.port = port
        yield dialect


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    return _until


async def _until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    """Wait for `condition`; fails after `deadline_s`."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > deadline_s:
            pytest.fail(f"did not happen within {deadline_s} s")
        await asyncio.sleep(0.002)


class _Server(uvicorn.Server):
    """uvicorn, looking for its end more often than every 100 ms."""

    async def main_loop(self) -> None:
        await _until(lambda: self.should_exit, 300)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are pytest's


@contextlib.asynccontextmanager
async def _listening(app: Any) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", date_header=False, timeout_graceful_shutdown=0)
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            await _until(lambda: server.started)
            yield int(sock.getsockname()[1]), server
        finally:
            server.should_exit = True
            await task
