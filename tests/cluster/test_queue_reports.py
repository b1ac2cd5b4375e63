"""Reports of what waits at an ingress replica, without a cluster."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import RpcError

from serving.cluster.autoscaling import Queued
from serving.cluster.queue_reports import QueueReports
from serving.cluster.stores import queued as store


class Store:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[tuple[str, str], Queued] = {}
        self.writes = 0
        self.away = False
        self.written = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        monkeypatch.setattr(store, "publish", self.publish)
        monkeypatch.setattr(store, "withdraw", self.withdraw)

    def publish(self, model: str, ingress: str, queued: Queued, timeout_s: float) -> None:
        if self.away:
            raise RpcError("away")
        self.writes += 1
        self.kept[model, ingress] = queued
        self._loop.call_soon_threadsafe(self.written.set)

    def withdraw(self, model: str, ingress: str, timeout_s: float) -> None:
        self.kept.pop((model, ingress), None)


@pytest.fixture
async def kept(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


async def test_nothing_is_written_while_nothing_waits_and_the_end_of_waiting_is(kept: Store) -> None:
    queued = Queued()
    reports = QueueReports({"m": lambda: queued}, "i")

    await reports.report()
    assert kept.writes == 0
    queued = Queued(100.0, 1, 0.2)
    await reports.report()
    assert kept.kept == {("m", "i"): queued}
    queued = Queued()
    await reports.report()
    await reports.report()

    assert kept.kept == {("m", "i"): Queued()}
    assert kept.writes == 2


async def test_a_store_that_is_away_is_tried_again(kept: Store) -> None:
    reports = QueueReports({"m": lambda: Queued(1.0, 1, 0.1)}, "i")
    kept.away = True
    await reports.report()
    kept.away = False
    await reports.report()
    assert kept.writes == 1


async def test_it_reports_by_itself_and_takes_back_what_it_told_when_it_closes(kept: Store) -> None:
    reports = QueueReports({"m": lambda: Queued(1.0, 1, 0.1)}, "i")
    reports.start()
    async with asyncio.timeout(10):
        await kept.written.wait()
    await reports.close()
    assert kept.kept == {}
