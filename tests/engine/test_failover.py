"""Answers that survive their engines: a group of scripted engines that die and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.base import Constraint, EngineInfo, EngineRequest, Sampling, TokenDelta
from serving.engine.failover import FailoverEngine, FailoverOutcome
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.errors import EngineDiedError, EngineNotReadyError
from serving.harmony.vocabulary import RETURN, encode_harmony
from serving.settings.failover import FailoverSettings

COMPLETION = (
    "<|channel|>analysis<|message|>One two three.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>"
)
IDS = encode_harmony(COMPLETION)


class Group(ScriptedEngine):
    """Engines behind a router: `dies` says, before each delta of an attempt, whether that engine is lost now."""

    def __init__(self, dies: Callable[[EngineRequest, int], bool], tokens_per_step: int = 1) -> None:
        super().__init__(Script((ScriptLine(completion=COMPLETION, tokens_per_step=tokens_per_step),)))
        self.dies = dies
        self.requests: list[EngineRequest] = []
        self.available = True

    async def prepare(self) -> EngineInfo:
        if not self.available:
            raise EngineNotReadyError("none")
        return await super().prepare()

    async def check_health(self) -> None:
        await self.prepare()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        self.requests.append(request)
        async with aclosing(super().generate(request)) as deltas:
            number = 0
            async for delta in deltas:
                if self.dies(request, number):
                    raise EngineDiedError("lost")
                number += 1
                yield delta


def request_for(stream: bool = True, **fields: object) -> EngineRequest:
    return EngineRequest("r", [1, 2, 3], Sampling(100, stop_token_ids=(RETURN,), seed=7), stream, **fields)  # type: ignore[arg-type]  # whatever the test says


async def group(
    dies: Callable[[EngineRequest, int], bool], step: int = 1, **settings: float
) -> tuple[FailoverEngine, Group, list[FailoverOutcome]]:
    outcomes: list[FailoverOutcome] = []
    engines = Group(dies, step)
    await engines.start()
    bounds = FailoverSettings.model_validate({"attempts": 5, "longest_s": 10.0, **settings})
    return FailoverEngine("m", engines, bounds, lambda outcome, lost_s: outcomes.append(outcome)), engines, outcomes


async def collect(engine: FailoverEngine, request: EngineRequest) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(request)]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.0001)


def tokens(deltas: list[TokenDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


@given(seed=st.integers(0, 2**32), step=st.integers(1, 6), rate=st.floats(0, 0.3))
async def test_losses_change_no_token(seed: int, step: int, rate: float) -> None:
    random = Random(seed)
    # Not before an attempt's first delta: that would be the request's own fault.
    engine, engines, outcomes = await group(lambda _, number: number > 0 and random.random() < rate, step, attempts=100)
    deltas = await collect(engine, request_for())
    assert tokens(deltas) == IDS
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert outcomes == ["resumed"] * (len(engines.requests) - 1)
    assert engines.running == 0


async def test_goes_on_from_the_tokens_there_are() -> None:
    engine, engines, _ = await group(lambda request, number: not request.completion_token_ids and number == 4)
    constraint = Constraint("json_object")
    await collect(engine, request_for(constraint=constraint, constrained_tokens=0))
    first, second = engines.requests
    assert second.completion_token_ids == IDS[:4]
    assert second.constrained_tokens == 4
    assert second.sampling.max_tokens == first.sampling.max_tokens - 4
    assert second.priority < first.priority
    assert second.request_id != first.request_id
    assert second.sampling.seed != first.sampling.seed


async def test_one_that_does_not_stream_is_made_again() -> None:
    engine, engines, outcomes = await group(lambda request, _: not request.stream)
    assert tokens(await collect(engine, request_for(stream=False))) == IDS
    assert outcomes == ["restarted"]
    assert [request.stream for request in engines.requests] == [False, True]
    assert engines.requests[1].sampling.seed == 7


async def test_waits_for_the_replacement() -> None:
    def dies(request: EngineRequest, number: int) -> bool:
        if request.completion_token_ids or number < 4:
            return False
        engines.available = False
        return True

    engine, engines, outcomes = await group(dies)
    task = asyncio.create_task(collect(engine, request_for()))
    await until(lambda: not engines.available)
    await asyncio.sleep(0.15)
    assert not task.done()
    assert len(engines.requests) == 1
    engines.available = True
    assert tokens(await task) == IDS
    assert outcomes == ["resumed"]


@pytest.mark.parametrize("known_by", ["prepare", "check_health"])
async def test_a_new_request_waits_while_the_engine_that_was_there_is_replaced(known_by: str) -> None:
    engine, engines, _ = await group(lambda *_: False, hold_s=60)
    await getattr(engine, known_by)()
    engines.available = False
    waiting = asyncio.create_task(engine.prepare())
    await asyncio.sleep(0.15)
    assert not waiting.done()
    with pytest.raises(EngineNotReadyError):
        await engine.check_health()
    engines.available = True
    assert (await waiting).model == "scripted"


async def test_a_process_that_has_just_begun_waits_to_hear_of_its_engine() -> None:
    engine, engines, _ = await group(lambda *_: False)
    engines.available = False
    await engine.start()
    waiting = asyncio.create_task(engine.prepare())
    await asyncio.sleep(0.15)
    assert not waiting.done()
    engines.available = True
    assert (await waiting).model == "scripted"


class Memory:
    """What outlives a process."""

    def __init__(self) -> None:
        self.ready = False

    async def recall(self) -> bool:
        return self.ready

    async def remember(self) -> None:
        self.ready = True


async def test_a_process_that_begins_in_the_middle_of_a_replacement_knows_that_there_was_an_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.failover._STARTUP_GRACE_S", 0.0)
    engines, memory = Group(lambda *_: False), Memory()

    def process() -> FailoverEngine:
        return FailoverEngine("m", engines, FailoverSettings(), lambda *_: None, memory)

    # Given a model that never had an engine: a request is refused
    engines.available = False
    first = process()
    await first.start()
    with pytest.raises(EngineNotReadyError):
        await first.prepare()
    # When it has had one, and another process begins while that is replaced
    engines.available = True
    await first.prepare()
    engines.available = False
    second = process()
    await second.start()
    # Then a request waits for it
    waiting = asyncio.create_task(second.prepare())
    await asyncio.sleep(0.15)
    assert not waiting.done()
    engines.available = True
    assert (await waiting).model == "scripted"


async def test_the_wait_for_a_replacement_is_bounded() -> None:
    engine, engines, _ = await group(lambda *_: False, hold_s=0.15)
    await engine.prepare()
    engines.available = False
    with pytest.raises(EngineNotReadyError):
        await engine.prepare()


async def test_time_is_bounded() -> None:
    def dies(request: EngineRequest, number: int) -> bool:
        engines.available = number < 4
        return not engines.available

    engine, engines, outcomes = await group(dies, longest_s=0.2)
    with pytest.raises(EngineDiedError, match="none of 1 attempts"):
        await collect(engine, request_for())
    assert outcomes == ["given_up"]


async def test_attempts_are_bounded() -> None:
    engine, engines, outcomes = await group(lambda request, number: number == 1, attempts=3)
    with pytest.raises(EngineDiedError, match="none of 3 attempts"):
        await collect(engine, request_for())
    assert len(engines.requests) == 3
    assert outcomes == ["resumed", "resumed", "given_up"]


async def test_attempts_that_no_engine_took_are_not_counted() -> None:
    engine, engines, outcomes = await group(lambda request, number: not request.completion_token_ids and number == 4)
    refusals = 8

    original = engines.generate

    def generate(request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        nonlocal refusals
        if request.completion_token_ids and refusals:
            refusals -= 1
            raise EngineNotReadyError("its process is dead, its replica not yet")
        return original(request)

    engines.generate = generate  # type: ignore[method-assign]  # a router that is slow to learn
    assert tokens(await collect(engine, request_for())) == IDS
    assert (refusals, outcomes) == (0, ["resumed"])


async def test_without_an_engine_a_new_request_is_refused_at_once() -> None:
    engine, engines, outcomes = await group(lambda *_: False)
    engines.available = False
    begun = time.monotonic()
    engines._closed = True
    with pytest.raises(EngineNotReadyError):
        await collect(engine, request_for())
    assert time.monotonic() - begun < 5
    assert outcomes == []


async def test_a_request_that_kills_engines_is_stopped_and_the_rest_live() -> None:
    poison = "poison"
    down = asyncio.Event()

    def dies(request: EngineRequest, number: int) -> bool:
        # A step that has the poison in it takes every request of the engine with it.
        if request.request_id.startswith(poison):
            down.set()
            return True
        if down.is_set() and number > 0:
            asyncio.get_running_loop().call_soon(down.clear)
            return True
        return False

    engine, engines, outcomes = await group(dies, attempts=20)
    others = [asyncio.create_task(collect(engine, request_for())) for _ in range(16)]
    await until(lambda: len(engines.requests) == 16)
    bad = EngineRequest(poison, [1], Sampling(100, stop_token_ids=(RETURN,)))
    with pytest.raises(EngineDiedError) as caught:
        await collect(engine, bad)
    assert (caught.value.code, caught.value.should_retry) == ("engine_killed_by_request", False)
    assert [tokens(deltas) for deltas in await asyncio.gather(*others)] == [IDS] * 16
    assert sum(request.request_id.startswith(poison) for request in engines.requests) == 2
    assert outcomes.count("poison") == 1


async def test_suspects_go_one_at_a_time() -> None:
    released = asyncio.Event()
    under_way = most = 0

    class Slow(Group):
        async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
            nonlocal under_way, most
            if request.request_id.endswith("again1"):
                under_way += 1
                most = max(most, under_way)
                await released.wait()
                under_way -= 1
            async with aclosing(super().generate(request)) as deltas:
                async for delta in deltas:
                    yield delta

    engines = Slow(lambda request, number: request.request_id == "r")
    await engines.start()
    engine = FailoverEngine("m", engines, FailoverSettings(), lambda *_: None)
    tasks = [asyncio.create_task(collect(engine, request_for())) for _ in range(4)]
    await until(lambda: under_way == 1)
    await asyncio.sleep(0.02)
    released.set()
    await asyncio.gather(*tasks)
    assert most == 1


async def test_closing_stops_the_engine() -> None:
    engine, engines, _ = await group(lambda *_: False)
    async with aclosing(engine.generate(request_for())) as deltas:
        await anext(deltas)
        assert engines.running == 1
    assert engines.running == 0
