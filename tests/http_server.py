"""The whole application on the scripted engine, behind a real HTTP server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from serving.app import create_app
from serving.engine.base import EngineRequest, OwnedEngine, TokenDelta
from serving.engine.lifecycle.in_process import EngineReplicas
from serving.engine.lifecycle.manager import ModelManager
from serving.engine.lifecycle.model import Observer
from serving.engine.lifecycle.store import LifecycleStore, MemoryLifecycleStore
from serving.engine.pulled import pulled
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.engine.sleeping import SleepingEngine
from serving.engine.start_failure import StartFailures
from serving.parts import Parts, Platform
from serving.settings.http import HttpSettings
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings
from serving.store.base import Store
from serving.store.registrations import Registrations
from serving.tenancy.tenancy import Tenancy

ANALYSIS = "Somebody greets me."
ANSWER = "Hello there!"
HARMONY = (
    f"<|channel|>analysis<|message|>{ANALYSIS}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>"
)
PREAMBLE = "Let me look."
ARGUMENTS = '{"city": "Zürich"}'
CALL_HARMONY = (
    "<|channel|>analysis<|message|>A tool has this.<|end|>"
    f"<|start|>assistant<|channel|>commentary<|message|>{PREAMBLE}<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json"
    f"<|message|>{ARGUMENTS}<|call|>"
)
LONG = "<|channel|>final<|message|>" + "word " * 20_000

LINES = (
    ScriptLine(prompt_contains="weather", completion=CALL_HARMONY),
    ScriptLine(prompt_contains="slowly", completion=LONG, step_ms=5),
    ScriptLine(prompt_contains="silently", completion=LONG, step_ms=600_000),
    ScriptLine(prompt_contains="endlessly", completion=LONG + "word " * 80_000, tokens_per_step=4),
    ScriptLine(completion=HARMONY),
)
HELLO = {"role": "user", "content": "Hello!"}
NOW = 1_760_000_000.0  # 2025-10-09 08:53:20 UTC


class RecordingEngine(ScriptedEngine):
    """Keeps what it was asked for, counts what was taken from it, and fails as no engine may after `fails_after`.

    `in_turn` are lines that the next answers are, one each, whatever was asked.
    """

    def __init__(self, script: Script, *, max_model_len: int, settings: ModelSettings) -> None:
        super().__init__(script, model="demo", max_model_len=max_model_len, settings=settings)
        self.requests: list[EngineRequest] = []
        self.deltas_taken = 0
        self.fails_after: int | None = None
        self.in_turn: list[ScriptLine] = []
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def start(self) -> None:
        await self.may_start.wait()
        await super().start()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        self.requests.append(request)
        asks_for_an_answer = not request.completion_token_ids and "-check-" not in request.request_id
        if self.in_turn and asks_for_an_answer:
            self.script = Script((self.in_turn.pop(0),))
        async with contextlib.aclosing(super().generate(request)) as deltas:
            async for delta in deltas:
                if self.deltas_taken == self.fails_after:
                    raise RuntimeError("the secret reason")
                self.deltas_taken += 1
                yield delta


class ReplicaInProcess(SleepingEngine):
    """A replica's engine, asked in its own process."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        return pulled(self.run, request)


class Lifecycles:
    """Lifecycles of models by clocks that stand still until they are moved, shared by all servers made with it."""

    def __init__(self) -> None:
        self.now = NOW
        self.store: LifecycleStore = MemoryLifecycleStore()
        self._sleeping: dict[str, ReplicaInProcess] = {}

    def replica(self, engine: RecordingEngine, models: Mapping[str, ModelSettings]) -> ReplicaInProcess:
        """`engine` as a replica has it."""
        name, settings = next(iter(models.items()))
        sleeping = ReplicaInProcess(name, engine, settings, clock=lambda: self.now, monotonic=lambda: self.now)
        self._sleeping = dict.fromkeys(models, sleeping)
        return sleeping

    def manager(self, settings: Settings, observer: Observer) -> ModelManager:
        """What a platform in one process makes, by these clocks and with this store."""
        engines = self._sleeping
        return ModelManager(
            settings,
            engines,
            self.store,
            EngineReplicas(engines),
            observer,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )


@dataclass(frozen=True)
class Served:
    """A running server and its clients; the openai client does not retry."""

    engine: RecordingEngine
    host: str
    port: int
    openai: AsyncOpenAI
    http: httpx.AsyncClient
    tenancy: Tenancy

    async def chat(self, **fields: Any) -> httpx.Response:
        body = {"model": "demo", "messages": [HELLO], **fields}
        return await self.http.post("/v1/chat/completions", json=body)


class Serve(Protocol):
    def __call__(
        self,
        *lines: ScriptLine,
        max_model_len: int = 131072,
        start: bool = True,
        models: Mapping[str, ModelSettings] | None = None,
        further: Mapping[str, Any] | None = None,
        store: Store | None = None,
        registrations: Registrations | None = None,
        lifecycles: Lifecycles | None = None,
        start_failures: StartFailures | None = None,
        **http: Any,
    ) -> contextlib.AbstractAsyncContextManager[Served]: ...


class Until(Protocol):
    async def __call__(self, condition: Callable[[], bool], deadline_s: float = 10.0) -> float: ...


@pytest.fixture
def lifecycles(monkeypatch: pytest.MonkeyPatch) -> Lifecycles:
    monkeypatch.setattr("serving.engine.lifecycle.manager.REFRESH_S", 0.01)
    return Lifecycles()


@pytest.fixture
def serve() -> Serve:
    return _served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with _served() as running:
        yield running


@contextlib.asynccontextmanager
async def _served(
    *lines: ScriptLine,
    max_model_len: int = 131072,
    start: bool = True,
    models: Mapping[str, ModelSettings] | None = None,
    further: Mapping[str, Any] | None = None,
    store: Store | None = None,
    registrations: Registrations | None = None,
    lifecycles: Lifecycles | None = None,
    start_failures: StartFailures | None = None,
    **http: Any,
) -> AsyncIterator[Served]:
    models = models or {"demo": ModelSettings(aliases=("gpt-oss", "openai/gpt-oss-20b"))}
    engine = RecordingEngine(Script(lines or LINES), max_model_len=max_model_len, settings=next(iter(models.values())))
    if start:
        await engine.start()
    settings = Settings(models=dict(models), http=HttpSettings(**http), **(further or {}))
    engines: dict[str, OwnedEngine] = dict.fromkeys(
        models, engine if lifecycles is None else lifecycles.replica(engine, models)
    )
    own = Platform.in_process(settings, engines, clock=_now)
    platform = replace(
        own,
        labels={"deployment": "ingress", "replica": "test"},
        responses_store=store or own.responses_store,
        adapter_registrations=registrations or own.adapter_registrations,
        adapter_hosts=dict.fromkeys(models, engine),
        start_failures=start_failures or own.start_failures,
        model_manager=own.model_manager if lifecycles is None else lifecycles.manager,
    )
    async with Parts.open(settings, engines, platform) as parts, listening(create_app(parts)) as port:
        base = f"http://127.0.0.1:{port}"
        # Nothing here is TLS, and reading certificates takes longer than most tests.
        async with (
            httpx.AsyncClient(base_url=base, timeout=30, verify=False) as plain,
            DefaultAsyncHttpxClient(verify=False) as transport,
            AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, http_client=transport) as client,
        ):
            yield Served(engine, "127.0.0.1", port, client, plain, parts.tenancy)
    for each in {id(each): each for each in engines.values()}.values():
        await each.close()


def _now() -> float:
    return NOW


@contextlib.contextmanager
def in_thread(settings: Settings, engine: OwnedEngine) -> Iterator[str]:
    """The application on an engine of the model `demo`, in a thread with an event loop of its own.

    Gives the base URL; for clients that block.
    """
    address: Future[str] = Future()
    stop = threading.Event()

    async def run() -> None:
        await engine.start()
        async with (
            Parts.in_process(settings, {"demo": engine}) as parts,
            listening(create_app(parts)) as port,
        ):
            address.set_result(f"http://127.0.0.1:{port}")
            await asyncio.to_thread(stop.wait)
        await engine.close()

    with ThreadPoolExecutor(1, "server") as pool:
        over = pool.submit(asyncio.run, run())
        over.add_done_callback(lambda _: address.cancel())
        try:
            yield address.result(timeout=20)
        finally:
            stop.set()
            over.result(timeout=20)


class _Server(uvicorn.Server):
    """uvicorn, looking for its end more often than every 100 ms."""

    async def main_loop(self) -> None:
        await _until(lambda: self.should_exit, deadline_s=300)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are pytest's


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """The application on a free port of the loopback; gives the port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = _Server(
            uvicorn.Config(app, log_config=None, lifespan="off", date_header=False, timeout_graceful_shutdown=1)
        )
        running = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            await _until(lambda: server.started)
            yield int(sock.getsockname()[1])
        finally:
            server.should_exit = True
            await running


@pytest.fixture
def until() -> Until:
    return _until


async def _until(condition: Callable[[], bool], deadline_s: float = 10.0) -> float:
    """Wait for `condition`; returns how many seconds that took, fails after `deadline_s`."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > deadline_s:
            pytest.fail(f"did not happen within {deadline_s} s")
        await asyncio.sleep(0.001)
    return time.perf_counter() - started
