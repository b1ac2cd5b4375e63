"""Requests over connections, with both ends on real sockets and engines that are played."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
import zmq

from serving.cluster.routing.power_of_two import PowerOfTwo
from serving.cluster.transport import connection as connection_module
from serving.cluster.transport import endpoint as endpoint_module
from serving.cluster.transport import wire
from serving.cluster.transport.endpoint import ReplicaEndpoint
from serving.cluster.transport.framed_calls import FramedCalls
from serving.cluster.transport.wire import Call, Endpoint, Frame, Hello, Refused, ToIngress, Welcome
from serving.engine.base import EngineInfo, EngineRequest, Sampling, TokenDelta, TokenLogprobs
from serving.engine.load import EngineLoad
from serving.errors import (
    EngineDiedError,
    EngineNotReadyError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
)

Push = Callable[[TokenDelta], None]

REQUEST = EngineRequest("r", [1, 2], Sampling(10))
WHOLE = EngineRequest("r", [1, 2], Sampling(10), stream=False)
KEYS = zmq.curve_keypair()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.001)


class Engine:
    """Pushes what the test says, when it says so."""

    def __init__(self) -> None:
        self.begun: list[EngineRequest] = []
        self.cancelled: list[EngineRequest] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.tokens = 5
        self.error: BaseException | None = None
        self.info = EngineInfo("m", 1000, max_num_seqs=7)
        self.not_ready: EngineNotReadyError | None = None

    async def run(self, request: EngineRequest, push: Push) -> None:
        self.begun.append(request)
        try:
            for number in range(self.tokens):
                if number == 1:
                    await self.go_on.wait()
                    if self.error is not None:
                        raise self.error
                logprobs = None if request.sampling.logprobs is None else [TokenLogprobs(number, -0.5, ((7, -1.0),))]
                push(TokenDelta([number], "stop" if number == self.tokens - 1 else None, logprobs, cached_tokens=16))
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise

    async def describe(self) -> EngineInfo:
        if self.not_ready is not None:
            raise self.not_ready
        return self.info


class Replicas:
    """What Serve would list."""

    def __init__(self) -> None:
        self.metadata: dict[str, Mapping[str, Any]] | None = {}
        self.under_way: dict[str, int] = {}
        self.most = 0

    def listed(self) -> Mapping[Any, Mapping[str, Any]] | None:
        return self.metadata

    def takes_calls(self, replica: Any) -> bool:
        return self.metadata is not None and replica in self.metadata

    def began(self, replica: Any) -> None:
        self.under_way[replica] = self.under_way.get(replica, 0) + 1
        self.most = max(self.most, *self.under_way.values())

    def ended(self, replica: Any) -> None:
        self.under_way[replica] -= 1


class Stack:
    """One ingress and engine replicas, by name."""

    def __init__(self, curve_keys: tuple[bytes, bytes] | None = None) -> None:
        self.curve_keys = curve_keys
        self.losses: list[str] = []
        self.replicas = Replicas()
        self.engines: dict[str, Engine] = {}
        self.endpoints: dict[str, ReplicaEndpoint] = {}
        self.calls = FramedCalls(
            "m",
            self.replicas,
            PowerOfTwo(Random(1)),
            lambda model, loss: self.losses.append(loss),
            curve_keys,
            "127.0.0.1",
        )

    def replica(self, name: str = "one", pace_s: float = 0.0) -> Engine:
        engine = self.engines[name] = Engine()
        endpoint = ReplicaEndpoint("127.0.0.1", engine.run, engine.describe, pace_s, self.curve_keys)
        self.endpoints[name] = endpoint
        self.add(name, endpoint.endpoint)
        return engine

    def add(self, name: str, endpoint: Endpoint) -> None:
        assert self.replicas.metadata is not None
        self.replicas.metadata[name] = endpoint.metadata()

    async def ready(self) -> None:
        await self.calls.start()
        await until(lambda: self.calls.info() is not None)

    async def generate(self, request: EngineRequest = REQUEST) -> AsyncGenerator[TokenDelta]:
        stream, leave = self.calls.begin(request)
        try:
            while True:
                delta = await stream.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            leave()

    async def answer(self, request: EngineRequest = REQUEST) -> list[TokenDelta]:
        async with asyncio.timeout(20):
            return [delta async for delta in self.generate(request)]


@asynccontextmanager
async def running(curve_keys: tuple[bytes, bytes] | None = None) -> AsyncIterator[Stack]:
    stack = Stack(curve_keys)
    try:
        yield stack
    finally:
        await stack.calls.close()
        for endpoint in stack.endpoints.values():
            await endpoint.close()


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with running() as each:
        yield each


def tokens(deltas: list[TokenDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


@pytest.mark.parametrize("keys", [None, KEYS])
@pytest.mark.parametrize("request_", [REQUEST, WHOLE])
async def test_an_answer_comes_once_and_whole(keys: tuple[bytes, bytes] | None, request_: EngineRequest) -> None:
    async with running(keys) as stack:
        engine = stack.replica()
        await stack.ready()
        deltas = await stack.answer(request_)
        assert tokens(deltas) == [0, 1, 2, 3, 4]
        assert (deltas[-1].finish_reason, deltas[-1].cached_tokens) == ("stop", 16)
        assert engine.begun == [request_]
        assert (stack.losses, stack.replicas.under_way) == ([], {"one": 0})


async def test_one_that_does_not_stream_comes_in_one_piece(stack: Stack) -> None:
    stack.replica()
    await stack.ready()
    assert len(await stack.answer(WHOLE)) == 1


async def test_many_requests_at_once_all_end(stack: Stack) -> None:
    for name in ("one", "two", "three"):
        stack.replica(name)
    await stack.ready()
    await until(lambda: len(stack.calls._ready) == 3)
    answers = await asyncio.gather(*(stack.answer() for _ in range(300)))
    assert all(tokens(deltas) == [0, 1, 2, 3, 4] for deltas in answers)
    assert sum(len(engine.begun) for engine in stack.engines.values()) == 300
    assert all(engine.begun for engine in stack.engines.values())
    assert set(stack.replicas.under_way.values()) == {0}


async def test_log_probabilities_travel(stack: Stack) -> None:
    stack.replica()
    await stack.ready()
    deltas = await stack.answer(EngineRequest("r", [1], Sampling(10, logprobs=1)))
    logprobs = [each for delta in deltas for each in delta.logprobs or ()]
    assert logprobs == [TokenLogprobs(number, -0.5, ((7, -1.0),)) for number in range(5)]


async def test_calls_under_way_are_counted_for_serve(stack: Stack) -> None:
    engine = stack.replica()
    engine.go_on.clear()
    await stack.ready()
    asking = [asyncio.create_task(stack.answer()) for _ in range(4)]
    await until(lambda: len(engine.begun) == 4)
    assert stack.replicas.under_way == {"one": 4}
    engine.go_on.set()
    await asyncio.gather(*asking)
    assert stack.replicas.under_way == {"one": 0}


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (InvalidRequestError("no such grammar", param="grammar"), InvalidRequestError),
        (EngineNotReadyError("asleep", retry_after_s=2), EngineNotReadyError),
        (EngineDiedError("gone"), EngineDiedError),
        (ValueError("a bug with the prompt in it"), InternalError),
        (asyncio.CancelledError(), EngineDiedError),
    ],
)
@pytest.mark.parametrize("request_", [REQUEST, WHOLE])
async def test_every_error_ends_the_request(
    stack: Stack, raised: BaseException, told: type[Exception], request_: EngineRequest
) -> None:
    stack.replica().error = raised
    await stack.ready()
    with pytest.raises(told) as caught:
        await stack.answer(request_)
    assert "prompt" not in str(caught.value)
    assert stack.replicas.under_way == {"one": 0}


async def test_an_engine_that_stops_without_an_end_has_died(stack: Stack) -> None:
    engine = stack.replica()
    await stack.ready()
    engine.tokens = 0
    with pytest.raises(EngineDiedError, match="before the answer was complete"):
        await stack.answer()


async def test_leaving_stops_the_engine_and_nothing_else(stack: Stack) -> None:
    # Given two answers under way
    engine = stack.replica()
    engine.go_on.clear()
    await stack.ready()
    async with aclosing(stack.generate()) as leaving, aclosing(stack.generate()) as staying:
        assert (await anext(leaving)).token_ids == [0]
        assert (await anext(staying)).token_ids == [0]
        # When one reader leaves
        await leaving.aclose()
        # Then its work ends, and the other goes on
        await until(lambda: len(engine.cancelled) == 1)
        assert stack.replicas.under_way == {"one": 1}
        engine.go_on.set()
        assert tokens([delta async for delta in staying]) == [1, 2, 3, 4]
    assert stack.endpoints["one"].calls == 0


async def test_an_ingress_that_is_gone_stops_its_work_alone(stack: Stack) -> None:
    # Given requests of two ingress replicas
    engine = stack.replica()
    engine.go_on.clear()
    await stack.ready()
    mine = asyncio.create_task(stack.answer())
    other = Stack()
    other.add("one", stack.endpoints["one"].endpoint)
    await other.ready()
    theirs = asyncio.create_task(other.answer())
    await until(lambda: len(engine.begun) == 2)
    # When one of them goes
    await other.calls.close()
    with pytest.raises(EngineDiedError):
        await theirs
    # Then the next report finds it gone, and its work ends
    async with asyncio.timeout(20):
        while len(engine.cancelled) < 1:
            stack.endpoints["one"].report(EngineLoad("e", 2, 0, 0))
            await asyncio.sleep(0.001)
    engine.go_on.set()
    assert tokens(await mine) == [0, 1, 2, 3, 4]


async def test_loads_come_without_a_request(stack: Stack) -> None:
    stack.replica().info = EngineInfo("m", 1000, load=EngineLoad("e", 1, 0, 0))
    loads: list[EngineLoad] = []
    stack.calls.on_load = loads.append
    await stack.ready()
    stack.endpoints["one"].report(EngineLoad("e", 2, 1, 300))
    await until(lambda: len(loads) == 2)
    assert loads == [EngineLoad("e", 1, 0, 0), EngineLoad("e", 2, 1, 300)]
    assert stack.calls._ready[0].connection.load == loads[-1]


async def test_a_request_goes_where_fewer_prompt_tokens_wait(stack: Stack) -> None:
    # Given two replicas, one of which has reported long prompts in its queue
    for name in ("reading", "calm"):
        stack.replica(name).go_on.clear()
    await stack.ready()
    await until(lambda: len(stack.calls._ready) == 2)
    stack.endpoints["reading"].report(EngineLoad("e", 1, 1, 40_000))
    await until(lambda: any(link.queued_tokens for link in stack.calls._ready))
    # When a request comes, it goes to the other; and so does what comes before that one has reported it
    long = EngineRequest("long", [1] * 30_000, Sampling(10))
    asking = [asyncio.create_task(stack.answer(request)) for request in (long, REQUEST)]
    await until(lambda: len(stack.engines["calm"].begun) == 2)
    assert stack.engines["reading"].begun == []
    stack.engines["calm"].go_on.set()
    await asyncio.gather(*asking)


async def test_a_stopping_replica_finishes_what_it_has_and_takes_nothing_new(stack: Stack) -> None:
    # Given an answer under way
    engine = stack.replica()
    engine.go_on.clear()
    await stack.ready()
    running = asyncio.create_task(stack.answer())
    await until(lambda: len(engine.begun) == 1)
    # When its replica is told to stop, before Serve has told the ingress
    draining = asyncio.create_task(stack.endpoints["one"].drain())
    await asyncio.sleep(0)
    # Then a new one is refused and not begun, and no more are sent there
    with pytest.raises(EngineNotReadyError):
        await stack.answer()
    assert stack.calls.info() is None
    assert not draining.done()
    engine.go_on.set()
    assert tokens(await running) == [0, 1, 2, 3, 4]
    async with asyncio.timeout(20):
        await draining
    assert len(engine.begun) == 1


async def test_a_replica_that_is_listed_no_more_gets_nothing_new_and_keeps_what_it_has(stack: Stack) -> None:
    going, coming = stack.replica("going"), None
    going.go_on.clear()
    await stack.ready()
    running = asyncio.create_task(stack.answer())
    await until(lambda: len(going.begun) == 1)
    assert stack.replicas.metadata is not None
    # When Serve takes it off the list, and the ingress has not looked again
    del stack.replicas.metadata["going"]
    with pytest.raises(EngineNotReadyError):
        await stack.answer()
    coming = stack.replica("coming")
    await until(lambda: stack.calls.info() is not None)
    assert tokens(await stack.answer()) == [0, 1, 2, 3, 4]
    assert (len(going.begun), len(coming.begun)) == (1, 1)
    going.go_on.set()
    assert tokens(await running) == [0, 1, 2, 3, 4]
    # Then its connection is closed once it has nothing to do
    await until(lambda: set(stack.calls._links) == {"coming"})


async def test_an_engine_that_is_not_ready_is_asked_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_GREET_AGAIN_S", 0.01)
    engine = stack.replica()
    engine.not_ready = EngineNotReadyError("starting")
    await stack.calls.start()
    await until(lambda: stack.calls.everywhere)
    with pytest.raises(EngineNotReadyError):
        await stack.answer()
    engine.not_ready = None
    await until(lambda: stack.calls.info() is not None)
    assert stack.calls.info() == engine.info


async def test_a_request_that_is_not_ready_for_is_tried_elsewhere_after_that(stack: Stack) -> None:
    # Given a replica whose engine is gone, and another one
    broken = stack.replica("broken")
    broken.error = EngineNotReadyError("the engine is gone")
    stack.replica("sound")
    await stack.ready()
    await until(lambda: len(stack.calls._ready) == 2)
    broken.not_ready = broken.error
    # When requests come
    ends = await asyncio.gather(*(stack.answer() for _ in range(20)), return_exceptions=True)
    # Then those that met the broken one are told, and later ones go to the other
    assert any(isinstance(end, EngineNotReadyError) for end in ends)
    assert [tokens(await stack.answer()) for _ in range(20)] == [[0, 1, 2, 3, 4]] * 20


async def test_too_many_calls_are_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "_MOST_CALLS", 2)
    engine = stack.replica()
    engine.go_on.clear()
    await stack.ready()
    first = [asyncio.create_task(stack.answer()) for _ in range(2)]
    await until(lambda: len(engine.begun) == 2)
    with pytest.raises(OverloadedError):
        await stack.answer()
    engine.go_on.set()
    await asyncio.gather(*first)


async def test_an_ingress_that_reads_slowly_loses_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a peer whose queue is full most of the time
    engine = stack.replica()
    engine.tokens = 200
    await stack.ready()
    endpoint = stack.endpoints["one"]
    send = endpoint.send
    refused: list[ToIngress] = []

    def reluctant(identity: bytes, message: ToIngress) -> bool:
        if len(refused) % 3 != 2:
            refused.append(message)
            return False
        refused.append(message)
        return send(identity, message)

    monkeypatch.setattr(endpoint, "send", reluctant)
    assert tokens(await stack.answer()) == list(range(200))
    assert len(refused) > 3


@pytest.mark.parametrize("versions", [(2, 3), (0, 0)])
async def test_a_replica_without_a_common_version_is_not_connected_to(stack: Stack, versions: tuple[int, int]) -> None:
    stack.replica("ours")
    stack.add("theirs", Endpoint("tcp://127.0.0.1:1", b"k", versions))
    stack.calls.look()
    assert not stack.calls.everywhere
    assert set(stack.calls._links) == {"ours"}
    assert stack.replicas.metadata is not None
    del stack.replicas.metadata["theirs"]
    stack.calls.look()
    assert stack.calls.everywhere


async def test_two_releases_meet_at_the_newest_version_of_both(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a replica of this release, and an ingress of a later one
    stack.replica()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    try:
        socket.connect(stack.endpoints["one"].endpoint.address)

        async def greeted(oldest: int, newest: int) -> Any:
            socket.send(msgspec.msgpack.encode(Hello(stack.endpoints["one"].endpoint.key, oldest, newest)))
            await until(lambda: socket.poll(0) != 0)
            return msgspec.msgpack.decode(socket.recv(), type=ToIngress)

        assert isinstance(await greeted(2, 3), Refused)
        welcome = await greeted(1, 3)
        assert isinstance(welcome, Welcome)
        assert welcome.version == 1
        monkeypatch.setattr(wire, "VERSIONS", (1, 2))
        welcome = await greeted(1, 3)
        assert isinstance(welcome, Welcome)
        assert welcome.version == 2
    finally:
        socket.close(linger=0)


async def test_strangers_and_garbage_are_thrown_away(stack: Stack) -> None:
    engine = stack.replica()
    await stack.ready()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    try:
        socket.connect(stack.endpoints["one"].endpoint.address)
        for message in (
            msgspec.msgpack.encode(Hello(b"guessed", 1, 1)),
            msgspec.msgpack.encode(Call(b"12345678", REQUEST)),
            msgspec.msgpack.encode([1, b"x", "not a request"]),
            b"\xc1 garbage",
            b"",
        ):
            socket.send(message)
        socket.send_multipart([b"several", b"parts"])
        assert tokens(await stack.answer()) == [0, 1, 2, 3, 4]
        assert len(engine.begun) == 1
        assert not socket.poll(0)
    finally:
        socket.close(linger=0)


async def test_tokens_that_are_missing_end_the_call_as_if_the_engine_had_died(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.replica()
    await stack.ready()
    endpoint = stack.endpoints["one"]
    send = endpoint.send

    def forgetful(identity: bytes, message: ToIngress) -> bool:
        if isinstance(message, Frame) and message.ends:
            message = msgspec.structs.replace(message, entries=[])
        return send(identity, message)

    monkeypatch.setattr(endpoint, "send", forgetful)
    with pytest.raises(EngineDiedError):
        await stack.answer()
    assert stack.losses == ["missing"]


PROCESS = """
import asyncio, json, sys
from serving.cluster.transport.endpoint import ReplicaEndpoint
from serving.engine.base import EngineInfo, TokenDelta

async def run(request, push):
    if request.request_id != "silent":
        push(TokenDelta([1]))
    await asyncio.sleep(3600)

async def info():
    return EngineInfo("m", 1000)

async def main():
    endpoint = ReplicaEndpoint("127.0.0.1", run, info)
    print(json.dumps(endpoint.endpoint.metadata()), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
async def process(stack: Stack) -> AsyncIterator[subprocess.Popen[bytes]]:
    """An engine replica in a process of its own, which is ready."""
    child = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", PROCESS], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        assert stack.replicas.metadata is not None
        stack.replicas.metadata["one"] = msgspec.json.decode(line)
        await stack.ready()
        yield child
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("watch", ["connection", "process"])
@pytest.mark.parametrize("request_id", ["r", "silent"])
async def test_a_killed_replica_ends_its_calls_without_a_timeout(
    stack: Stack, process: subprocess.Popen[bytes], watch: str, request_id: str
) -> None:
    # Given calls that a replica has taken, one with tokens and one without, and one of the two ways to notice its end
    link = stack.calls._links["one"].connection
    if watch == "connection":
        asyncio.get_running_loop().remove_reader(link._process)
    else:
        link._events.close()
    stream, leave = stack.calls.begin(EngineRequest(request_id, [1], Sampling(10)))
    await until(lambda: stream.taken and (stream.begun or request_id == "silent"))
    if stream.begun:
        await stream.next()
    # When it is killed
    process.kill()
    # Then the calls end as those of an engine that died at work, and nothing is sent there
    async with asyncio.timeout(20):
        with pytest.raises(EngineDiedError):
            await stream.next()
    leave()
    assert stack.calls.info() is None
    assert stack.replicas.under_way == {"one": 0}
    with pytest.raises(EngineNotReadyError):
        stack.calls.begin(REQUEST)


async def test_a_call_that_was_not_taken_was_not_begun(stack: Stack, process: subprocess.Popen[bytes]) -> None:
    # Given a replica that stands still, so that it does not take what is sent
    os.kill(process.pid, signal.SIGSTOP)
    stream, leave = stack.calls.begin(REQUEST)
    process.kill()
    async with asyncio.timeout(20):
        with pytest.raises(EngineNotReadyError):
            await stream.next()
    leave()


async def test_a_replica_that_was_lost_and_is_still_listed_is_connected_to_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.cluster.transport.framed_calls._AGAIN_S", 0.01)
    engine = stack.replica()
    await stack.ready()
    stack.calls._links["one"].connection._lose("the network went away")
    assert stack.calls.info() is None
    await until(lambda: stack.calls.info() is not None)
    assert tokens(await stack.answer()) == [0, 1, 2, 3, 4]
    assert len(engine.begun) == 1


async def test_nothing_is_left_open(stack: Stack) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    async with running() as other:
        other.replica()
        await other.ready()
        await other.answer()
        assert descriptors() > before
    await until(lambda: descriptors() <= before)
