"""Measurement of one target at one level, over one round or several."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving_bench import report
from serving_bench.collector import Collector
from serving_bench.cpu import CpuTime, added
from serving_bench.distribution import Distribution
from serving_bench.outcome import CHANNELS
from serving_bench.ratios import Round, round_metrics


class Measurement:
    """Sum of rounds; `rounds` has the metrics of each complete one by its number."""

    def __init__(self, target: str, level: report.Level) -> None:
        self.target = target
        self.level = level
        self.rounds: dict[int, Round] = {}
        self.whole = Collector(None)
        self._last: Collector | None = None
        self._count = 0
        self._elapsed_s = 0.0
        self._cpu: CpuTime = {}
        self._cpu_missing: str | None = None
        self._idle_s = self._idle_cpu_s = 0.0
        self._client_cpu_s = 0.0
        self._lag = Distribution()

    def collector(self, clock: Callable[[], float] = time.perf_counter) -> Collector:
        """Collector for the round that begins now."""
        self._last = Collector(clock(), self.whole)
        return self._last

    def add_round(
        self, number: int, elapsed_s: float, cpu: CpuTime, client_cpu_s: float, lag: Distribution, *, complete: bool
    ) -> None:
        """Add the round of the last collector(); an interrupted one is not for comparisons."""
        assert self._last is not None, "collector() begins a round"
        self._count += 1
        self._elapsed_s += elapsed_s
        self._cpu = added(self._cpu, cpu)
        self._client_cpu_s += client_cpu_s
        self._lag.merge(lag)
        if complete:
            self.rounds[number] = round_metrics(self._last, elapsed_s, cpu)

    def add_idle(self, elapsed_s: float, cpu: CpuTime) -> None:
        """Add a round in which another target was measured."""
        self._idle_s += elapsed_s
        self._idle_cpu_s += sum(role.seconds for role in cpu.values())

    def cpu_is_missing(self, why: str) -> None:
        """Note that there will be no CPU times."""
        self._cpu_missing = why

    def run_report(self) -> report.Run | None:
        """Report of all rounds; None before the first."""
        if not self._count or self._last is None:
            return None
        whole, elapsed = self.whole, self._elapsed_s
        tokens, told = whole.tokens, whole.tokens_report()
        return report.Run(
            target=self.target,
            level=self.level,
            rounds=self._count,
            elapsed_s=elapsed,
            requests=whole.requests_report(),
            requests_per_s=whole.completed / elapsed,
            tokens=told,
            tokens_per_s=tokens / elapsed if tokens is not None else None,
            tokens_per_s_by_channel=(
                {name: told.by_channel[name] / elapsed for name in CHANNELS} if told.by_channel is not None else None
            ),
            chunks=whole.chunks_report(elapsed),
            latency=whole.latency_report(),
            failures=whole.failures_report(),
            cpu=self._cpu_report(tokens),
            client=report.ClientCost(
                cpu_s=self._client_cpu_s,
                cores=self._client_cpu_s / elapsed,
                us_per_chunk=self._client_cpu_s / whole.chunks * 1e6 if whole.chunks else None,
                lag_p99_s=self._lag.quantile(0.99),
            ),
            timeline=self._last.timeline.report(elapsed) if self._count == 1 and self._last.timeline else None,
        )

    def _cpu_report(self, tokens: float | None) -> report.Cpu:
        def per_token(group: str) -> float | None:
            seconds = sum(role.seconds for role in self._cpu.values() if role.group == group)
            return seconds / tokens * 1e6 if tokens and self._cpu else None

        roles = [
            report.RoleCpu(
                role=name,
                group=role.group,
                processes=role.processes,
                cpu_s=role.seconds,
                us_per_token=role.seconds / tokens * 1e6 if tokens else None,
            )
            for name, role in sorted(self._cpu.items(), key=lambda item: (_GROUPS[item[1].group], -item[1].seconds))
        ]
        upkeep = sum(role.seconds for role in self._cpu.values() if role.group == "upkeep")
        return report.Cpu(
            roles=roles,
            missing=self._cpu_missing,
            front_end_us_per_token=per_token("front end"),
            engine_us_per_token=per_token("engine"),
            upkeep_cores=upkeep / self._elapsed_s if self._cpu else None,
            idle_cores=self._idle_cpu_s / self._idle_s if self._idle_s and self._cpu else None,
        )


_GROUPS = {"front end": 0, "engine": 1, "upkeep": 2, "other": 3}
