"""What surrounds an engine's work: prompts before it is ready, and sleep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from serving.engine.base import EngineRequest, Sampling, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.engine.scripted_prompt import ScriptedPrompt
from serving.engine.sleeping import SleepingEngine
from serving.errors import ConflictError
from serving.settings.models import ModelSettings

FINAL = "<|channel|>final<|message|>"
LINES = (ScriptLine(prompt_contains="known", completion=f"{FINAL}Yes.<|return|>"),)
# 2 tokens that no line of the script fits; what is asked does not matter here.
RAW = EngineRequest("r", [1, 2], Sampling(4))


@dataclass
class Clock:
    now: float = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


class Watched(ScriptedEngine):
    """Keeps the texts that it was asked, and can be slow to fall asleep and to wake."""

    def __init__(self, *lines: ScriptLine) -> None:
        super().__init__(Script(lines or LINES))
        self.asked: list[str] = []
        self.changes: list[str] = []
        self.may_change = asyncio.Event()
        self.may_change.set()

    async def run(self, request: EngineRequest, push: Callable[[TokenDelta], None]) -> None:
        self.asked.append(ScriptedPrompt(request.prompt_token_ids).user_text)
        await super().run(request, push)

    async def sleep(self) -> None:
        await self.may_change.wait()
        await super().sleep()
        self.changes.append("asleep")

    async def wake(self) -> None:
        await self.may_change.wait()
        await super().wake()
        self.changes.append("awake")


def sleeping_engine(engine: ScriptedEngine, clock: Clock, **settings: Any) -> SleepingEngine:
    return SleepingEngine("m", engine, ModelSettings.model_validate(settings), clock=clock, monotonic=clock)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def asked(engine: SleepingEngine) -> list[TokenDelta]:
    deltas: list[TokenDelta] = []
    await engine.run(EngineRequest("r", [1], Sampling(4)), deltas.append)
    return deltas


async def test_prompts_are_asked_before_it_is_ready_and_one_that_fails_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = Watched()
    engine = sleeping_engine(inner, Clock(), warm_up=["a known one", "secret", "known too"])
    with caplog.at_level(logging.WARNING):
        await engine.start()
    assert inner.asked == ["a known one", "secret", "known too"]
    assert "prompt 2 of 3 failed" in caplog.text
    assert "secret" not in caplog.text
    assert (await engine.prepare()).model == "scripted"
    await engine.close()


async def test_a_request_wakes_it_and_the_prompts_are_asked_again() -> None:
    inner = Watched(ScriptLine(completion=f"{FINAL}Yes.<|return|>"))
    engine = sleeping_engine(inner, Clock(), warm_up=["Hi!"])
    await engine.start()
    await engine.sleep()
    await engine.sleep()
    assert (await engine.reports())[0].asleep
    assert (await asked(engine))[-1].finish_reason
    await until(lambda: inner.asked.count("Hi!") == 2)
    assert inner.changes == ["asleep", "awake"]
    assert not (await engine.reports())[0].asleep
    await engine.close()


async def test_requests_that_come_while_it_changes_wait_for_that() -> None:
    inner = Watched(ScriptLine(completion=f"{FINAL}Yes.<|return|>"))
    engine = sleeping_engine(inner, Clock())
    await engine.start()
    inner.may_change.clear()
    sleeping = asyncio.create_task(engine.sleep())
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(asked(engine)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    inner.may_change.set()
    await asyncio.gather(sleeping, *waiting)
    assert inner.changes == ["asleep", "awake"]
    await engine.close()


async def test_who_leaves_while_it_wakes_does_not_stop_it() -> None:
    inner = Watched(ScriptLine(completion=f"{FINAL}Yes.<|return|>"))
    engine = sleeping_engine(inner, Clock())
    await engine.start()
    await engine.sleep()
    inner.may_change.clear()
    leaving = asyncio.create_task(asked(engine))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait({leaving})
    inner.may_change.set()
    await until(lambda: inner.changes == ["asleep", "awake"])
    await engine.close()


async def test_it_does_not_sleep_under_a_request() -> None:
    inner = Watched(ScriptLine(completion=f"{FINAL}{'word ' * 100}", step_ms=600_000))
    engine = sleeping_engine(inner, Clock())
    await engine.start()
    working = asyncio.create_task(engine.run(RAW, lambda delta: None))
    await until(lambda: inner.running == 1)
    with pytest.raises(ConflictError, match="1 requests"):
        await engine.sleep()
    working.cancel()
    await asyncio.wait({working})
    await until(lambda: inner.running == 0)
    await engine.sleep()
    await engine.close()


def hurried(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
    """Has the clock go on by what the engine sleeps, at once; returns what sleeps in earnest."""
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        clock.now += seconds
        await sleep(0)

    monkeypatch.setattr("serving.engine.sleeping.asyncio.sleep", quick)
    return sleep


async def test_idle_engines_sleep_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, clock = Watched(ScriptLine(completion=f"{FINAL}Yes.<|return|>")), Clock()
    engine = sleeping_engine(inner, clock, idle={"after_s": 60, "action": "sleep"})
    sleep = hurried(clock, monkeypatch)
    await engine.start()
    async with asyncio.timeout(10):
        while not inner.changes:
            await sleep(0.001)
    await engine.close()
    assert inner.changes == ["asleep"]


async def test_an_engine_that_cannot_sleep_is_left_awake_and_it_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Sleepless(Watched):
        async def sleep(self) -> None:
            raise ConflictError("It never sleeps.")

    inner, clock = Sleepless(), Clock()
    engine = sleeping_engine(inner, clock, idle={"after_s": 60, "action": "sleep"})
    sleep = hurried(clock, monkeypatch)
    with caplog.at_level(logging.WARNING):
        await engine.start()
        async with asyncio.timeout(10):
            while "It never sleeps." not in caplog.text:
                await sleep(0.001)
    assert (await engine.prepare()).model
    await engine.close()


async def test_it_tells_what_memory_its_processes_take() -> None:
    class OnGpu(Watched):
        async def used_device_memory(self) -> int | None:
            return 80_000_000_000

    (report,) = await sleeping_engine(OnGpu(), Clock()).reports()
    assert report.memory_bytes > 1_000_000
    assert report.device_memory_bytes == 80_000_000_000
