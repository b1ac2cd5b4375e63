"""The course of a comparison: the first server that starts stays, the others come beside it in turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.gpu.cells import Cell
from benchmarks.gpu.servers import Kind, Launched, Served, command, launched
from benchmarks.servers import Running, free_port, openmp_threads
from serving.engine.accelerator import Accelerator
from serving.errors import BenchError
from serving_bench.client import Timeouts
from serving_bench.live import LiveProgress
from serving_bench.report import Report
from serving_bench.session import Plan, Server
from serving_bench.start import measure
from serving_bench.target import parse_target

START_S = 300.0
LEAST_START_S = 30.0
"""Nothing is started with less time than that before it."""
_STOP_S = 15.0
_WARM_UP = 32
_REQUEST_S = 120.0


@dataclass
class Findings:
    """What there is so far. `apart`: no two servers were up at once."""

    apart: bool
    measured: list[tuple[Cell, Report]] = field(default_factory=list)
    commands: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By server: what started it, and the seconds until it was ready."""
    failed: dict[str, str] = field(default_factory=dict)
    """By server: why it did not start, or was not measured to the end."""
    left_out: list[str] = field(default_factory=list)
    interrupted: bool = False
    slowness: float = 1.0
    """How much longer than thought the slowest cell took."""


@dataclass(frozen=True, slots=True)
class _Up:
    """A server that answers; `leave` stops it."""

    kind: Kind
    running: Running
    leave: ExitStack


@dataclass(frozen=True)
class Bench:
    """One comparison. `deadline` is of time.monotonic(); `changed` is told whenever there is more to write."""

    served: Served
    accelerator: Accelerator
    cells: Sequence[Cell]
    folder: Path
    console: Console
    deadline: float
    findings: Findings
    changed: Callable[[], None]

    def run(self, kinds: Sequence[Kind]) -> None:
        """Measure all of `kinds`, as far as they start and time allows."""
        waiting = deque(kinds)
        reference: _Up | None = None
        with ExitStack() as everything:
            while waiting and not self._interrupted():
                together = 2 if reference is None and self._side_by_side else 1
                batch = [waiting.popleft() for _ in range(min(together, len(waiting)))]
                up = list(self._start(batch, reference, everything))
                if reference is None and not self.findings.apart and up:
                    reference = up.pop(0)
                for each in up:
                    if self._interrupted():
                        break
                    self._measure([each] if reference is None else [reference, each])
                    each.leave.close()
            if reference is not None and not self.findings.measured and not self._interrupted():
                self._measure([reference])

    def _interrupted(self) -> bool:
        return self.findings.interrupted

    @property
    def _side_by_side(self) -> bool:
        # On a CPU the second one's threads are those that the first one was given by Ray.
        return self.accelerator.device != "cpu" and not self.findings.apart

    def _start(self, kinds: Sequence[Kind], reference: _Up | None, everything: ExitStack) -> Iterator[_Up]:
        begun: list[tuple[Kind, Launched, ExitStack]] = []
        for kind in kinds:
            if self._left() < LEAST_START_S:
                self.findings.left_out.append(f"{kind}: no time was left to start it")
                continue
            self.console.print(f"starting {kind}")
            leave = everything.enter_context(ExitStack())
            folder = self.folder / kind
            folder.mkdir(exist_ok=True)
            try:
                threads = openmp_threads(reference.running) if reference is not None else None
                todo = command(kind, self.served, self.accelerator, folder, free_port(), threads)
                begun.append((kind, leave.enter_context(launched(todo, folder / "log")), leave))
            except (BenchError, OSError) as error:
                self._failed(kind, error)
        for kind, process, leave in begun:
            try:
                running = process.ready(min(time.monotonic() + START_S, self.deadline))
            except BenchError as error:
                leave.close()
                self._failed(kind, error)
                continue
            self.console.print(f"{kind} is ready after {running.start_s:.0f} s")
            self.findings.commands[kind] = (running.command, running.start_s)
            yield _Up(kind, running, leave)

    def _measure(self, servers: Sequence[_Up]) -> None:
        names = " and ".join(each.kind for each in servers)
        for cell in self.cells:
            thought = cell.lasts(len(servers))
            if self._left() < thought * self.findings.slowness:
                self.findings.left_out.append(f"{names}: {cell.words}, streams: {cell.streams}; no time was left")
                continue
            self.console.print(f"{cell.words}, streams: {cell.streams}")
            targets = [
                Server(parse_target(each.running.url, each.kind, each.kind), self.served.name) for each in servers
            ]
            plan = Plan(
                targets,
                cell.workload,
                [cell.load],
                rounds=cell.rounds,
                warm_up=min(_WARM_UP, cell.streams),
                timeouts=Timeouts(request=_REQUEST_S),
            )
            began = time.monotonic()
            try:
                report = measure(plan, LiveProgress(self.console))
            except BenchError as error:
                # It names the server; otherwise the newer one is the more likely.
                blamed = (each.kind for each in servers if each.running.url in str(error))
                self._failed(next(blamed, servers[-1].kind), error)
                return
            if report.interrupted:
                # Half a cell says nothing.
                self.findings.interrupted = True
                return
            self.findings.slowness = max(self.findings.slowness, (time.monotonic() - began) / thought)
            self.findings.measured.append((cell, report))
            self.changed()

    def _failed(self, kind: Kind, error: Exception) -> None:
        self.console.print(f"{kind}: {error}", markup=False)
        self.findings.failed[kind] = str(error)
        self.changed()

    def _left(self) -> float:
        return self.deadline - time.monotonic() - _STOP_S
