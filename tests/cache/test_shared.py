from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from serving.cache.shared import Reader, SharedGeneration
from serving.errors import EngineDiedError, EngineNotReadyError
from serving.generation.types import ChatEvent, LogprobEntry, TextDelta

Play = Callable[[Sequence[ChatEvent]], AsyncGenerator[ChatEvent]]
Answer = Callable[..., list[ChatEvent]]


class Kept:
    """Notes what is kept and what it is told."""

    def __init__(self) -> None:
        self.kept: list[list[ChatEvent]] = []
        self.closed = self.over = 0

    async def keep(self, events: Sequence[ChatEvent]) -> None:
        self.kept.append(list(events))

    def on_closed(self) -> None:
        self.closed += 1

    def on_over(self) -> None:
        self.over += 1


@pytest.fixture
def kept() -> Kept:
    return Kept()


def started(kept: Kept, events: AsyncGenerator[ChatEvent], most_bytes: int = 10_000) -> tuple[SharedGeneration, Reader]:
    shared = SharedGeneration(most_bytes, kept.on_closed)
    reader = shared.join()
    shared.start(events, kept.keep, kept.on_over)
    return shared, reader


async def read(reader: Reader) -> list[ChatEvent]:
    events = [event async for event in reader.events()]
    await reader.leave()
    return events


async def ended(shared: SharedGeneration) -> None:
    assert shared.task is not None
    await asyncio.wait({shared.task}, timeout=5)
    assert shared.task.done()
    await asyncio.sleep(0)  # what is called when it is done


async def test_every_reader_gets_all_and_it_is_kept_once(kept: Kept, answer: Answer, playing: Play) -> None:
    events = answer("a", "b")
    shared, first = started(kept, playing(events))
    second = shared.join()
    assert list(await asyncio.gather(read(first), read(second))) == [events, events]
    await ended(shared)
    assert kept.kept == [events]
    assert (kept.closed, kept.over) == (1, 1)


async def test_a_reader_may_come_while_the_answer_is_being_kept(kept: Kept, answer: Answer, playing: Play) -> None:
    events, may_end = answer("a"), asyncio.Event()

    async def keep(made: Sequence[ChatEvent]) -> None:
        await may_end.wait()

    shared = SharedGeneration(10_000, kept.on_closed)
    first = shared.join()
    shared.start(playing(events), keep, kept.on_over)
    assert await read(first) == events
    late = shared.join()
    assert late.whole
    assert await read(late) == events
    assert (kept.closed, kept.over) == (0, 1)
    may_end.set()
    await ended(shared)
    assert kept.closed == 1


async def test_it_stops_before_the_last_reader_has_left(kept: Kept, answer: Answer) -> None:
    stopped = asyncio.Event()

    async def endless() -> AsyncGenerator[ChatEvent]:
        try:
            yield answer("a")[0]
            await asyncio.Event().wait()
        finally:
            stopped.set()

    shared, first = started(kept, endless())
    second = shared.join()
    events = first.events()
    await anext(events)
    await events.aclose()
    await first.leave()
    assert not stopped.is_set()
    await second.leave()
    assert stopped.is_set()
    assert kept.kept == []
    assert (kept.closed, kept.over) == (1, 1)


async def test_one_that_is_left_before_it_began_tells_so_all_the_same(
    kept: Kept, answer: Answer, playing: Play
) -> None:
    shared, reader = started(kept, playing(answer("a")))
    await reader.leave()
    await ended(shared)
    assert kept.kept == []
    assert (kept.closed, kept.over) == (1, 1)


async def test_a_failure_comes_after_what_there_was_and_to_each_as_its_own(kept: Kept, answer: Answer) -> None:
    async def failing() -> AsyncGenerator[ChatEvent]:
        yield answer("a")[0]
        raise EngineDiedError("gone", param="x", code="c")

    shared, first = started(kept, failing())
    readers = [first, shared.join()]
    errors = []
    for reader in readers:
        events = reader.events()
        assert await anext(events) == answer("a")[0]
        with pytest.raises(EngineDiedError, match="gone") as caught:
            await anext(events)
        assert reader.failed
        assert not reader.whole
        errors.append(caught.value)
        await reader.leave()
    assert errors[0] is not errors[1]
    assert {(error.param, error.code) for error in errors} == {("x", "c")}
    assert kept.kept == []
    assert kept.closed == 1


async def test_a_bug_comes_to_everybody(kept: Kept) -> None:
    async def broken() -> AsyncGenerator[ChatEvent]:
        for number in ("no number",):
            yield TextDelta(int(number), "final", "never")

    _, reader = started(kept, broken())
    with pytest.raises(ValueError, match="no number"):
        await read(reader)


async def test_whoever_waits_when_the_server_stops_is_told(kept: Kept) -> None:
    async def endless() -> AsyncGenerator[ChatEvent]:
        await asyncio.Event().wait()
        yield TextDelta(0, "final", "never")

    shared, reader = started(kept, endless())
    waiting = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    assert shared.task is not None
    shared.task.cancel()
    with pytest.raises(EngineNotReadyError, match="stopping"):
        await waiting


async def test_one_that_is_too_large_is_read_whole_and_not_kept(kept: Kept, answer: Answer, playing: Play) -> None:
    events = answer(*["word "] * 2000)
    shared, reader = started(kept, playing(events), most_bytes=1000)
    assert await read(reader) == events
    await ended(shared)
    assert shared.too_large
    assert kept.kept == []
    assert (kept.closed, kept.over) == (1, 1)


async def test_one_that_is_too_large_goes_at_the_pace_of_its_fastest_reader(kept: Kept, answer: Answer) -> None:
    events, made = answer(*["word "] * 2000), 0

    async def counted() -> AsyncGenerator[ChatEvent]:
        nonlocal made
        for event in events:
            made += 1
            yield event

    shared, slow = started(kept, counted(), most_bytes=1000)
    fast = shared.join()
    for _ in range(50):
        await asyncio.sleep(0)
    assert made < 300
    # The slow one holds nobody back, and loses nothing.
    assert await read(fast) == events
    assert await read(slow) == events


async def test_what_all_have_read_is_let_go(kept: Kept, answer: Answer, playing: Play) -> None:
    shared, reader = started(kept, playing(answer(*["word "] * 5000)), most_bytes=1000)
    held = 0
    async for _ in reader.events():
        held = max(held, len(shared._events))
    await reader.leave()
    assert held < 1000


async def test_log_probabilities_count_for_the_size(kept: Kept, answer: Answer, playing: Play) -> None:
    entries = (LogprobEntry("a", -1.0, b"a", (("a", -1.0, b"a"),) * 20),)
    events = [*answer("a")[:1], *(TextDelta(0, "final", "a", logprobs=entries) for _ in range(20)), *answer("a")[-2:]]
    shared, reader = started(kept, playing(events))
    assert await read(reader) == events
    assert shared.too_large
