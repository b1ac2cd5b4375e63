"""What a call to a replica can end with; Serve's handle is played, since its errors cannot be had to order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError

from serving.cluster.routing.power_of_two import PowerOfTwo
from serving.cluster.transport.endpoint import ReplicaEndpoint
from serving.cluster.transport.framed_calls import FramedCalls
from serving.cluster.transport.frames import Address, Reply
from serving.cluster.transport.inbox import Inbox
from serving.cluster.transport.remote_engine import RemoteEngine
from serving.cluster.transport.unary_calls import UnaryCalls
from serving.engine.base import Adapter, EngineInfo, EngineReport, EngineRequest, Sampling, TokenDelta
from serving.engine.load import EngineLoad
from serving.errors import (
    EngineDiedError,
    EngineNotReadyError,
    InternalError,
    InvalidRequestError,
    InvalidValueError,
    OverloadedError,
)

Generate = Callable[[EngineRequest, Address | None], Any]
REQUEST = EngineRequest("r", [1], Sampling(10))


class Response:
    """A call under way: awaitable, and cancelled by cancel()."""

    def __init__(self, result: Any) -> None:
        self.cancelled = False
        self._result = result

    def __await__(self) -> Iterator[Any]:
        if isinstance(self._result, asyncio.Future):
            return self._result.__await__()
        return self._answer().__await__()

    async def _answer(self) -> Any:
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Method:
    call: Callable[..., Any]
    responses: list[Response] = field(default_factory=list)

    def remote(self, *arguments: Any) -> Response:
        self.responses.append(Response(self.call(*arguments)))
        return self.responses[-1]


class Everywhere:
    """What broadcast() gives: a call for each replica, ending as `ends` say."""

    def __init__(self, ends: Sequence[object]) -> None:
        self._ends = ends

    async def _fetch_replica_results_async(self) -> list[End]:
        return [End(end) for end in self._ends]


@dataclass
class End:
    end: object

    async def get_async(self) -> object:
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


class Handle:
    def __init__(self, generate: Generate) -> None:
        self.info = Method(lambda: EngineInfo("m", 1000))
        self.generate = Method(generate)
        self.ends: Sequence[object] = ()
        self.replicas: int | None = 1
        self.broadcasts: list[tuple[object, ...]] = []

    def broadcast(self, *call: object) -> Everywhere:
        self.broadcasts.append(call)
        return Everywhere(self.ends)


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox("127.0.0.1", lambda model, loss: None)
    yield inbox
    inbox.close()


async def started(
    inbox: Inbox, generate: Callable[[EngineRequest, Address | None], Any]
) -> tuple[RemoteEngine, Handle]:
    handle = Handle(generate)
    engine = RemoteEngine("m", handle, UnaryCalls("m", handle, inbox, lambda: handle.replicas))
    await engine.start()
    await until_ready(engine)
    return engine, handle


async def until_ready(engine: RemoteEngine) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await engine.prepare()
            except EngineNotReadyError:
                await asyncio.sleep(0.001)
            else:
                return


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        # Between replicas errors come as they were raised, elsewhere wrapped.
        (InvalidRequestError("no such grammar"), InvalidRequestError),
        (RayTaskError("f", "traceback", InvalidRequestError("no such grammar")), InvalidRequestError),
        (RayTaskError("f", "traceback", ValueError("a bug")), InternalError),
        (BackPressureError(num_queued_requests=5, max_queued_requests=5), OverloadedError),
        (ActorUnavailableError("gone", b"0" * 16), EngineNotReadyError),
        (RuntimeError("what nobody thought of"), RuntimeError),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_error_ends_the_request(
    inbox: Inbox, raised: Exception, told: type[Exception], stream: bool
) -> None:
    engine, _ = await started(inbox, lambda request, address: raised)
    request = EngineRequest("r", [1], Sampling(10), stream)
    async with asyncio.timeout(10):
        with pytest.raises(told):
            async for _ in engine.generate(request):
                pass
    await engine.close()


async def test_a_replica_lost_after_its_first_tokens_died_at_work(inbox: Inbox) -> None:
    addresses: list[Address] = []
    lost: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def generate(request: EngineRequest, address: Address | None) -> asyncio.Future[Reply]:
        assert address is not None
        addresses.append(address)
        return lost

    engine, _ = await started(inbox, generate)
    deltas = engine.generate(REQUEST)
    first = asyncio.create_task(anext(deltas))
    await asyncio.sleep(0)
    stream = inbox._streams[addresses[0].stream]
    stream._take([7], ())
    assert (await first).token_ids == [7]
    lost.set_exception(ActorUnavailableError("gone", b"0" * 16))
    with pytest.raises(EngineDiedError):
        await anext(deltas)
    await engine.close()


async def test_one_that_does_not_stream_asks_for_no_frames(inbox: Inbox) -> None:
    asked: list[Address | None] = []

    def generate(request: EngineRequest, address: Address | None) -> Reply:
        asked.append(address)
        return Reply([1, 2], "stop", 3)

    engine, _ = await started(inbox, generate)
    request = EngineRequest("r", [1], Sampling(10), stream=False)
    assert [delta async for delta in engine.generate(request)] == [TokenDelta([1, 2], "stop", None, 3)]
    assert asked == [None]
    await engine.close()


async def test_loads_come_with_the_info_and_with_replies_that_have_no_frames(inbox: Inbox) -> None:
    loads: asyncio.Queue[EngineLoad] = asyncio.Queue()
    engine, handle = await started(inbox, lambda request, address: Reply([1], "stop", load=EngineLoad("b", 2, 0, 0)))
    engine.take_loads(loads.put_nowait)
    handle.info = Method(lambda: EngineInfo("m", 1000, load=EngineLoad("a", 1, 0, 0)))
    engine._unary.lost.set()  # so that it asks at once
    async with asyncio.timeout(10):
        assert (await loads.get()).engine == "a"
        _ = [delta async for delta in engine.generate(EngineRequest("r", [1], Sampling(10), stream=False))]
        assert (await loads.get()).engine == "b"
    await engine.close()


async def test_leaving_cancels_the_call(inbox: Inbox) -> None:
    never: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    def generate(request: EngineRequest, address: Address | None) -> asyncio.Future[Reply]:
        asked.set()
        return never

    engine, handle = await started(inbox, generate)
    reading = asyncio.create_task(anext(engine.generate(REQUEST)))
    async with asyncio.timeout(10):
        await asked.wait()
    reading.cancel()
    await asyncio.wait({reading})
    assert handle.generate.responses[0].cancelled
    assert inbox._streams == {}
    await engine.close()


class Replicas:
    """What Serve lists: one replica, whose endpoint is given."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata

    def listed(self) -> Mapping[Any, Mapping[str, Any]] | None:
        return {"one": self._metadata}

    def takes_calls(self, replica: Any) -> bool:
        return True

    def began(self, replica: Any) -> None:
        """Counted by Serve."""

    def ended(self, replica: Any) -> None:
        """Counted by Serve."""


async def once(request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
    push(TokenDelta([1]))
    push(TokenDelta([2], "stop"))


async def described() -> EngineInfo:
    return EngineInfo("m", 1000, max_num_seqs=5)


async def test_over_connections_no_actor_is_called_for_a_request(inbox: Inbox) -> None:
    # Given a replica with an endpoint, and a handle that counts what it is asked
    endpoint = ReplicaEndpoint("127.0.0.1", once, described)
    handle = Handle(lambda request, address: pytest.fail("it was called"))
    framed = FramedCalls("m", Replicas(endpoint.endpoint.metadata()), PowerOfTwo(Random(1)), inbox.on_loss)
    unary = UnaryCalls("m", handle, inbox, lambda: 1, used=lambda: not framed.everywhere)
    engine = RemoteEngine("m", handle, unary, framed)
    await engine.start()
    await until_ready(engine)
    asked = len(handle.info.responses)
    # When requests are answered
    for _ in range(10):
        await engine.prepare()
        deltas = [delta async for delta in engine.generate(REQUEST)]
        assert [token for delta in deltas for token in delta.token_ids] == [1, 2]
    # Then nobody was called, not even to learn that the engine is ready
    assert (handle.generate.responses, handle.broadcasts) == ([], [])
    assert len(handle.info.responses) == asked
    assert engine.sequences() == 5
    await engine.close()
    await endpoint.close()


async def test_a_replica_of_an_earlier_release_is_called(inbox: Inbox) -> None:
    # Given a replica that Serve lists without an endpoint
    handle = Handle(lambda request, address: Reply([1, 2], "stop"))
    framed = FramedCalls("m", Replicas({}), PowerOfTwo(Random(1)), inbox.on_loss)
    unary = UnaryCalls("m", handle, inbox, lambda: 1, used=lambda: not framed.everywhere)
    engine = RemoteEngine("m", handle, unary, framed)
    await engine.start()
    await until_ready(engine)
    assert [delta.token_ids async for delta in engine.generate(REQUEST)] == [[1, 2]]
    assert len(handle.generate.responses) == 1
    await engine.close()


LOST = ActorUnavailableError("gone", b"0" * 16)
REFUSED = InvalidValueError("no such directory", param="source")


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([None, None], None),
        ([None, LOST], None),
        ([None, REFUSED], InvalidValueError),
        ([LOST, RayTaskError("f", "traceback", REFUSED)], InvalidValueError),
        ([None, RayTaskError("f", "traceback", ValueError("a bug"))], InternalError),
        ([None, RuntimeError("what nobody thought of")], RuntimeError),
        ([LOST], EngineNotReadyError),
        ([], EngineNotReadyError),
    ],
)
async def test_an_adapter_is_loaded_by_every_replica_or_it_is_told_why_not(
    inbox: Inbox, ends: list[object], told: type[Exception] | None
) -> None:
    engine, handle = await started(inbox, lambda request, address: None)
    adapter, handle.ends = Adapter("pirate", "/pirate"), ends
    if told is None:
        await engine.load_adapter(adapter)
    else:
        with pytest.raises(told):
            await engine.load_adapter(adapter)
    assert handle.broadcasts == [("load_adapter", adapter)]
    await engine.close()


async def test_where_no_replica_is_known_none_is_waited_for(inbox: Inbox) -> None:
    handle = Handle(lambda request, address: None)
    with pytest.raises(EngineNotReadyError):
        await RemoteEngine("m", handle, UnaryCalls("m", handle, inbox, lambda: 1)).unload_adapter(
            Adapter("pirate", "/pirate")
        )
    assert handle.broadcasts == []


@pytest.mark.parametrize("replicas", [None, 0])
async def test_nobody_is_called_where_no_replica_runs(inbox: Inbox, replicas: int | None) -> None:
    engine, handle = await started(inbox, lambda request, address: pytest.fail("it was called"))
    handle.replicas = replicas
    # At once, though it is asked for a second more at most whether it is ready.
    with pytest.raises(EngineNotReadyError):
        async for _ in engine.generate(REQUEST):
            pass
    async with asyncio.timeout(10):
        while True:
            try:
                await engine.prepare()
            except EngineNotReadyError:
                break
            await asyncio.sleep(0.001)
    asked = len(handle.info.responses)
    handle.replicas = 1
    async with asyncio.timeout(10):
        while True:
            if len(handle.info.responses) > asked:
                break
            await asyncio.sleep(0.001)
    await engine.close()


async def test_every_replica_sleeps_wakes_and_reports(inbox: Inbox) -> None:
    engine, handle = await started(inbox, lambda request, address: None)
    handle.ends = [None, None]
    await engine.sleep()
    await engine.wake()
    one, other = EngineReport(True, 1, None), EngineReport(False, 2, 80_000_000_000)
    handle.ends = [[one], [other], ActorUnavailableError("gone", b"0" * 16)]
    assert await engine.reports() == [one, other]
    assert [call[0] for call in handle.broadcasts] == ["sleep", "wake", "reports"]
    await engine.close()
