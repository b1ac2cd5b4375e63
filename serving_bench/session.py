"""One `serving bench` from its plan to its report: levels, rounds in turns, warm-up, and what Ctrl-C keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import serving
from serving.errors import BenchError
from serving_bench import report
from serving_bench.client import Client, Timeouts
from serving_bench.collector import Collector
from serving_bench.cpu import CpuMeter
from serving_bench.machine import this_machine
from serving_bench.measurement import Measurement
from serving_bench.outcome import REFUSED
from serving_bench.processes import Role
from serving_bench.ratios import ratios
from serving_bench.runner import MOST_OPEN, Load, Runner
from serving_bench.target import Target, resolve
from serving_bench.workload import Workload

_ROUND_NUMBERS = 1_000_000
"""Request numbers of one round; a round's requests are the same for every target."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_HOPELESS = frozenset((REFUSED, *(f"status {status}" for status in (400, 401, 403, 404, 422))))
"""Failures that tell of a mistake rather than of a model's server: no later request would do better."""


@dataclass(frozen=True, slots=True)
class Server:
    """A target with what is needed to speak to it."""

    target: Target
    model: str
    key: str | None = None
    cpu_roles: Sequence[Role] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a session: the first of `servers` against all others, `rounds` times at each of `loads`.

    With `compare` the servers are models behind one: the others are held against the first, and one that fails all
    the time is counted rather than refused.
    """

    servers: Sequence[Server]
    workload: Workload
    loads: Sequence[Load]
    rounds: int = 1
    warm_up: int = 8
    timeouts: Timeouts = field(default_factory=Timeouts)
    most_open: int = MOST_OPEN
    measure_cpu: bool = True
    compare: bool = False


class Progress(Protocol):
    """Observer of a session."""

    def begin(self, what: str, runner: Runner, collector: Collector, load: Load) -> None:
        """Note that a run begins; its numbers can be read from `runner` and `collector` at any time."""
        ...

    def end(self) -> None:
        """Note that it is over."""
        ...


class Session:
    """Session that runs a plan once. `run` is to be awaited in one event loop; raises BenchError."""

    def __init__(self, plan: Plan, progress: Progress, stop: asyncio.Event) -> None:
        self._plan = plan
        self._progress = progress
        self._stop = stop
        self._clients = [
            Client(server.target, plan.workload.api, key=server.key, timeouts=plan.timeouts) for server in plan.servers
        ]
        self._meters = self._cpu_meters()

    async def run(self) -> report.Report:
        """Measure; after `stop` is set the report has what there was until then."""
        measurements: list[list[Measurement]] = []
        orders: list[str] = []
        try:
            # All of them first: a mistake in the last one's name is told before anything has been measured.
            for index in range(len(self._plan.servers)):
                await self._warm_up(index)
            for number, load in enumerate(self._plan.loads):
                level = [Measurement(server.target.name, _level(load)) for server in self._plan.servers]
                measurements.append(level)
                orders.append(await self._measure_level(number, load, level))
        finally:
            for client in self._clients:
                client.close()
        return self._report(measurements, orders)

    async def _measure_level(self, level_number: int, load: Load, level: Sequence[Measurement]) -> str:
        order = ""
        for round_number in range(self._plan.rounds):
            forward = list(range(len(self._plan.servers)))
            # A B, then B A, and so on: what changes slowly on the machine falls on both alike.
            for index in forward if round_number % 2 == 0 else reversed(forward):
                if self._stop.is_set():
                    return order
                first = (level_number * self._plan.rounds + round_number) * _ROUND_NUMBERS
                await self._measure(index, round_number, load, level, first)
                order += _LETTERS[index % len(_LETTERS)]
        return order

    async def _measure(
        self, index: int, round_number: int, load: Load, level: Sequence[Measurement], first: int
    ) -> None:
        measurement, meter = level[index], self._meters[index]
        if meter.missing is not None:
            measurement.cpu_is_missing(meter.missing)
        for each in self._meters:
            each.start()
        collector = measurement.collector()
        runner = self._runner(index, collector)
        rounds = f", round {round_number + 1} of {self._plan.rounds}" if self._plan.rounds > 1 else ""
        self._progress.begin(f"{measurement.target}, {measurement.level}{rounds}", runner, collector, load)
        client_before = time.process_time()
        try:
            elapsed = await runner.run(load, self._stop, first)
        finally:
            self._progress.end()
        client_cpu = time.process_time() - client_before
        used = [each.stop() for each in self._meters]
        for other, cpu in enumerate(used):
            if other != index:
                level[other].add_idle(elapsed, cpu)
        measurement.add_round(
            round_number, elapsed, used[index], client_cpu, runner.lag, complete=not self._stop.is_set()
        )

    async def _warm_up(self, index: int) -> None:
        count = self._plan.warm_up
        if not count or self._stop.is_set():
            return
        collector = Collector(time.perf_counter())
        runner = self._runner(index, collector)
        load = Load(concurrency=min(count, 32), requests=count)
        self._progress.begin(f"{self._plan.servers[index].target.name}, warm-up", runner, collector, load)
        try:
            await runner.run(load, self._stop, first=-count)
        finally:
            self._progress.end()
        if collector.errors.total() == collector.sent and not self._stop.is_set():
            failure = collector.failures_report()[0]
            if self._plan.compare and failure.kind not in _HOPELESS:
                return
            words = f": {failure.example}" if failure.example else ""
            server = self._plan.servers[index]
            raise BenchError(
                f"all {count} warm-up requests to {server.target.url} for {server.model} failed: {failure.kind}{words}"
            )

    def _runner(self, index: int, collector: Collector) -> Runner:
        perform = self._clients[index].perform
        model = self._plan.servers[index].model
        return Runner(perform, self._plan.workload, model, collector, most_open=self._plan.most_open)

    def _cpu_meters(self) -> list[CpuMeter]:
        meters = []
        for server in self._plan.servers:
            meter = CpuMeter(resolve(server.target), server.target.port, server.cpu_roles)
            if not self._plan.measure_cpu:
                meter.missing = "not asked for"
            meters.append(meter)
        return meters

    def _report(self, measurements: Sequence[Sequence[Measurement]], orders: Sequence[str]) -> report.Report:
        workload = self._plan.workload
        return report.Report(
            version=serving.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            interrupted=self._stop.is_set(),
            machine=this_machine(),
            targets=[
                report.TargetInfo(name=server.target.name, url=server.target.url, model=server.model)
                for server in self._plan.servers
            ],
            settings=_settings(workload, self._plan),
            runs=[run for level in measurements for each in level if (run := each.run_report()) is not None],
            comparisons=[
                _comparison(other, level[0], order) if self._plan.compare else _comparison(level[0], other, order)
                for level, order in zip(measurements, orders, strict=True)
                for other in level[1:]
                if level[0].rounds.keys() & other.rounds.keys()
            ],
        )


def _comparison(target: Measurement, baseline: Measurement, order: str) -> report.Comparison:
    both = sorted(target.rounds.keys() & baseline.rounds.keys())
    found = ratios([target.rounds[number] for number in both], [baseline.rounds[number] for number in both])
    return report.Comparison(
        target=target.target, baseline=baseline.target, level=target.level, order=order, ratios=list(found)
    )


def _level(load: Load) -> report.Level:
    if load.ramp is None:
        return report.Level(mode="closed", concurrency=load.concurrency)
    ramp = load.ramp
    return report.Level(mode="open", rate=f"{ramp.last:g}" if ramp.seconds == 0 else str(ramp))


def _settings(workload: Workload, plan: Plan) -> report.Settings:
    return report.Settings(
        api=workload.api,
        stream=workload.stream,
        prompt_tokens=str(workload.prompt) if workload.prompt is not None else None,
        reply_tokens=str(workload.reply) if workload.reply is not None else None,
        effort=dict(workload.effort),
        shared_prefix=workload.shared_prefix,
        tools=workload.tools,
        temperature=workload.temperature,
        seed=workload.seed,
        questions=len(workload.questions),
        extra=sorted(workload.extra),
        warm_up=plan.warm_up,
        timeout_s=plan.timeouts.request,
        compare=plan.compare,
    )
