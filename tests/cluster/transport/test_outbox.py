"""What an engine replica sends to ingress replicas; test_inbox.py has both ends together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import zmq
import zmq.asyncio

from serving.cluster.transport import outbox as module
from serving.cluster.transport.frames import Address, Entry, Frame
from serving.cluster.transport.outbox import Outbox
from serving.engine.base import TokenDelta, TokenLogprobs


class Ingress:
    """The other end of the wire: takes whole frames."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PULL)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"

    async def frame(self) -> list[Entry]:
        async with asyncio.timeout(10):
            return msgspec.msgpack.decode(await self._socket.recv(), type=Frame).entries

    def address(self, stream: bytes) -> Address:
        return Address(self.endpoint, stream)

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def ingress() -> Iterator[Ingress]:
    each = Ingress()
    yield each
    each.close()


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    each = Outbox()
    yield each
    each.close()


async def test_deltas_of_one_step_are_one_entry_a_stream(ingress: Ingress, outbox: Outbox) -> None:
    outbox.add(ingress.address(b"a"), 0, TokenDelta([1], cached_tokens=16))
    outbox.add(ingress.address(b"b"), 5, TokenDelta([7]))
    outbox.add(ingress.address(b"a"), 1, TokenDelta([2, 3]))
    assert await ingress.frame() == [Entry(b"a", 0, [1, 2, 3], 16), Entry(b"b", 5, [7])]


async def test_log_probabilities_travel_with_their_tokens(ingress: Ingress, outbox: Outbox) -> None:
    outbox.add(ingress.address(b"a"), 0, TokenDelta([1], logprobs=[TokenLogprobs(1, -0.5, ((1, -0.5), (9, -1.0)))]))
    outbox.add(ingress.address(b"a"), 1, TokenDelta([2], logprobs=[TokenLogprobs(2, -0.25)]))
    (entry,) = await ingress.frame()
    assert entry.logprobs == [(1, -0.5, [(1, -0.5), (9, -1.0)]), (2, -0.25, [])]


async def test_each_ingress_gets_its_own_streams_alone(ingress: Ingress, outbox: Outbox) -> None:
    other = Ingress()
    try:
        outbox.add(ingress.address(b"a"), 0, TokenDelta([1]))
        outbox.add(other.address(b"b"), 0, TokenDelta([2]))
        assert [entry.stream for entry in await ingress.frame()] == [b"a"]
        assert [entry.stream for entry in await other.frame()] == [b"b"]
    finally:
        other.close()


async def test_a_frame_that_nobody_takes_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, outbox: Outbox
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 1)
    nobody = Address("tcp://127.0.0.1:1", b"a")
    for number in range(3):
        outbox.add(nobody, number, TokenDelta([number]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert outbox.dropped == 2


async def test_the_ingress_that_was_silent_longest_makes_room(
    monkeypatch: pytest.MonkeyPatch, ingress: Ingress, outbox: Outbox
) -> None:
    monkeypatch.setattr(module, "_MOST_PEERS", 1)
    outbox.add(Address("tcp://127.0.0.1:1", b"a"), 0, TokenDelta([1]))
    outbox.add(ingress.address(b"b"), 0, TokenDelta([2]))
    assert [entry.stream for entry in await ingress.frame()] == [b"b"]
    outbox.add(ingress.address(b"b"), 1, TokenDelta([3]))
    assert (await ingress.frame())[0].token_ids == [3]
