from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from serving.cluster.transport.frames import Address, Entry, LoadReport, Reply
from serving.cluster.transport.inbox import Inbox, Stream
from serving.cluster.transport.outbox import Outbox
from serving.engine.base import TokenDelta, TokenLogprobs

TOKENS = list(range(40))


@contextmanager
def listening(curve_keys: tuple[bytes, bytes] | None = None) -> Iterator[tuple[Inbox, list[tuple[str | None, str]]]]:
    losses: list[tuple[str | None, str]] = []
    inbox = Inbox("127.0.0.1", lambda model, loss: losses.append((model, loss)), curve_keys)
    try:
        yield inbox, losses
    finally:
        inbox.close()


@contextmanager
def sending(**options: object) -> Iterator[Outbox]:
    outbox = Outbox(**options)  # type: ignore[arg-type]  # whatever the test says
    try:
        yield outbox
    finally:
        outbox.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.001)


async def rest(stream: Stream) -> tuple[list[int], list[TokenDelta]]:
    deltas = [await stream.next()]
    while deltas[-1].finish_reason is None:
        deltas.append(await stream.next())
    return [token for delta in deltas for token in delta.token_ids], deltas


async def test_tokens_arrive_as_frames_and_the_reply_ends_them() -> None:
    with listening() as (inbox, losses), sending() as outbox:
        stream = inbox.open("m")
        outbox.add(stream.address, 0, TokenDelta([1], cached_tokens=16))
        assert await stream.next() == TokenDelta([1], cached_tokens=16)
        outbox.add(stream.address, 1, TokenDelta([2, 3]))
        assert (await stream.next()).token_ids == [2, 3]
        stream.finish(Reply([1, 2, 3, 4], "stop", 16))
        assert await stream.next() == TokenDelta([4], "stop", cached_tokens=16)
        assert losses == []


async def test_one_frame_carries_a_step_of_all_streams() -> None:
    with listening() as (inbox, _), sending() as outbox:
        streams = [inbox.open("m") for _ in range(5)]
        sent: list[list[Entry]] = []
        encode = outbox.encode

        def spy(entries: list[Entry], load: LoadReport | None = None) -> bytes:
            sent.append(entries)
            return encode(entries, load)

        outbox.encode = spy  # type: ignore[method-assign]  # to count frames
        for stream in streams:
            outbox.add(stream.address, 0, TokenDelta([7]))
        for stream in streams:
            assert (await stream.next()).token_ids == [7]
        assert [len(entries) for entries in sent] == [5]


async def test_pace_gathers_steps_but_first_tokens_go_at_once() -> None:
    with listening() as (inbox, _), sending(pace_s=3600.0) as outbox:
        first, second = inbox.open("m"), inbox.open("m")
        outbox.add(first.address, 0, TokenDelta([1]))
        assert (await first.next()).token_ids == [1]
        outbox.add(first.address, 1, TokenDelta([2]))
        outbox.add(first.address, 2, TokenDelta([3]))
        outbox.add(second.address, 0, TokenDelta([9]))
        assert (await second.next()).token_ids == [9]
        assert (await first.next()).token_ids == [2, 3]


async def test_few_streams_wait_for_a_part_of_the_pace() -> None:
    with listening() as (inbox, _), sending(pace_s=64.0) as outbox:
        # Given a stream that is alone, and so waits two seconds at most
        stream = inbox.open("m")
        for offset in range(2):
            outbox.add(stream.address, offset, TokenDelta([offset]))
            async with asyncio.timeout(30):
                assert (await stream.next()).token_ids == [offset]


async def test_log_probabilities_travel() -> None:
    logprobs = [TokenLogprobs(1, -0.5, ((1, -0.5), (2, -1.5)))]
    with listening() as (inbox, _), sending() as outbox:
        stream = inbox.open("m")
        outbox.add(stream.address, 0, TokenDelta([1], logprobs=logprobs))
        assert (await stream.next()).logprobs == logprobs
        more = [TokenLogprobs(5, -1.0)]
        stream.finish(Reply([1, 5], "stop", logprobs=logprobs + more))
        assert (await stream.next()).logprobs == more


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    drop=st.floats(0, 0.5),
    double=st.floats(0, 0.5),
    shuffle=st.booleans(),
)
async def test_lost_late_and_doubled_entries_never_change_the_tokens(
    seed: int, steps: list[int], drop: float, double: float, shuffle: bool
) -> None:
    random = Random(seed)
    entries = []
    offset = 0
    for step in steps:
        entries.append(Entry(b"s", offset, TOKENS[offset : offset + step]))
        offset += step
    tokens = TOKENS[:offset]
    arriving = [entry for entry in entries if random.random() >= drop]
    arriving += [entry for entry in entries if random.random() < double]
    if shuffle:
        random.shuffle(arriving)
    late = arriving[len(arriving) // 2 :] if random.random() < 0.3 else []
    stream = Stream("m", Address("", b"s"))
    for entry in arriving:
        if entry not in late:
            stream.add(entry)
    stream.finish(Reply(tokens, "length"))
    for entry in late:
        assert stream.add(entry) == "late"
    assert (await rest(stream))[0] == tokens


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1 no msgpack",
        msgspec.msgpack.encode({"a": 1}),
        msgspec.msgpack.encode([[b"x" * 16, "0", [1]]]),
        msgspec.msgpack.encode([[b"x" * 16, 0, [1]]]),
        b"\x93" * 5000,
    ],
)
async def test_what_is_no_frame_of_ours_is_counted_and_harmless(frame: bytes) -> None:
    with listening() as (inbox, losses), zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
        stream = inbox.open("m")
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(stream.address.endpoint)
        stranger.send(frame)
        await until(lambda: bool(losses))
        assert losses[0] in ((None, "corrupt"), (None, "foreign"))
        stream.finish(Reply([1], "stop"))
        assert (await stream.next()).token_ids == [1]


@pytest.mark.parametrize(
    ("entry", "loss"),
    [
        (Entry(b"s", 1, [5]), "missing"),
        (Entry(b"s", -1, [5, 6, 7]), "corrupt"),
        (Entry(b"s", 0, [5], 0, [(5, -1.0, []), (6, -1.0, [])]), "corrupt"),
        (Entry(b"s", 0, []), "doubled"),
    ],
)
def test_entries_that_do_not_fit_are_named(entry: Entry, loss: str) -> None:
    assert Stream("m", Address("", b"s")).add(entry) == loss


async def test_an_endpoint_nobody_reads_drops_frames_instead_of_keeping_them() -> None:
    with sending() as outbox:
        address = Address("tcp://127.0.0.1:9", b"s")
        for offset in range(5000):
            outbox.add(address, offset, TokenDelta([1]))
            await asyncio.sleep(0)
        await until(lambda: outbox.dropped > 0)


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    stream = Stream("m", Address("", b"s"))
    stream.add(Entry(b"s", 0, [1, 2]))
    stream.finish(RuntimeError("gone"))
    assert (await stream.next()).token_ids == [1, 2]
    with pytest.raises(RuntimeError, match="gone"):
        await stream.next()


async def test_a_closed_stream_takes_no_more() -> None:
    with listening() as (inbox, losses), sending() as outbox:
        stream = inbox.open("m")
        inbox.close_stream(stream)
        outbox.add(stream.address, 0, TokenDelta([1]))
        await until(lambda: losses == [(None, "foreign")])


async def test_encrypted_frames_arrive_and_plain_ones_do_not() -> None:
    keys = zmq.curve_keypair()
    with listening(keys) as (inbox, _), sending(curve_keys=keys) as ours, sending() as strangers:
        stream = inbox.open("m")
        assert stream.address.curve_key == keys[0]
        strangers.add(Address(stream.address.endpoint, stream.address.stream), 0, TokenDelta([666]))
        ours.add(stream.address, 0, TokenDelta([1]))
        assert (await stream.next()).token_ids == [1]
        stream.finish(Reply([1, 2], "stop"))
        assert (await rest(stream))[0] == [2]


def test_ids_cannot_be_guessed_and_never_come_twice() -> None:
    async def ids() -> set[bytes]:
        with listening() as (inbox, _):
            return {inbox.open("m").address.stream for _ in range(1000)}

    found = asyncio.run(ids())
    assert len(found) == 1000
    assert {len(stream) for stream in found} == {16}
