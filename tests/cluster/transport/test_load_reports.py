"""Reports of an engine's load on their way to the ingress replicas."""

from __future__ import annotations

import asyncio

import pytest

from serving.cluster.transport import load_reports
from serving.cluster.transport.frames import Address
from serving.cluster.transport.load_reports import LoadReports
from serving.engine.base import TokenDelta
from serving.engine.load import EngineLoad, KvCache
from tests.cluster.transport.test_inbox import listening, sending, until

BUSY = EngineLoad("e", 3, 1, 500, 8192, KvCache(1000, 40, 16, 8))
IDLE = EngineLoad("e", 0, 0, 0, 8192, KvCache(1000, 0, 16, 8))


async def test_a_load_comes_to_those_who_have_greeted() -> None:
    with listening() as (inbox, losses), sending() as outbox:
        loads: list[EngineLoad] = []
        inbox.take_loads("m", loads.append)
        stream = inbox.open("m")
        outbox.add(stream.address, 0, TokenDelta([1]))
        outbox.report(IDLE)
        assert (await stream.next()).token_ids == [1]
        outbox.greet(stream.address)
        outbox.report(BUSY)
        await until(lambda: bool(loads))
        assert (loads, losses) == ([BUSY], [])


async def test_a_load_comes_with_the_next_tokens() -> None:
    with listening() as (inbox, _), sending(pace_s=3600.0) as outbox:
        loads: list[EngineLoad] = []
        inbox.take_loads("m", loads.append)
        stream = inbox.open("m")
        outbox.greet(stream.address)
        outbox.add(stream.address, 0, TokenDelta([1]))
        assert (await stream.next()).token_ids == [1]
        outbox.report(BUSY)
        second = inbox.open("m")
        outbox.add(second.address, 0, TokenDelta([2]))
        assert (await second.next()).token_ids == [2]
        assert loads == [BUSY]


async def test_a_load_without_the_key_is_not_taken() -> None:
    with listening() as (inbox, losses), sending() as outbox:
        loads: list[EngineLoad] = []
        inbox.take_loads("m", loads.append)
        outbox.greet(Address(inbox.open("m").address.endpoint, b"s", load_key=b"guessed"))
        outbox.report(BUSY)
        await until(lambda: losses == [(None, "foreign")])
        assert loads == []


async def test_reports_go_while_requests_are_there_and_once_after_the_last() -> None:
    with listening() as (inbox, _), sending() as outbox:
        loads: list[EngineLoad] = []
        inbox.take_loads("m", loads.append)
        now = BUSY
        reports = LoadReports(lambda: now, outbox.report, 0.001)
        outbox.greet(inbox.open("m").address)
        with reports.request():
            await until(lambda: len(loads) > 2)
        now = IDLE
        await until(lambda: loads[-1] == IDLE)
        await asyncio.sleep(0.05)
        assert loads.count(IDLE) == 1
        with reports.request():
            await until(lambda: loads.count(IDLE) > 2)
        reports.close()


async def test_an_idle_replica_reports_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_reports, "_IDLE_EVERY_S", 0.001)
    loads: list[EngineLoad] = []
    reports = LoadReports(lambda: IDLE, loads.append, 0.001)
    await until(lambda: len(loads) > 2)
    reports.close()
