"""CPU time of a server's processes by role, between two moments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from serving_bench.processes import (
    ROLES,
    SERVE_PROXY,
    Group,
    Role,
    command_line,
    is_local,
    listeners,
    matching_processes,
    role_of,
    server_processes,
)


@dataclass(slots=True)
class RoleTime:
    """CPU seconds of the processes of one role."""

    group: Group
    processes: int = 0
    seconds: float = 0.0


CpuTime = dict[str, RoleTime]
"""By role."""


def added(one: CpuTime, other: CpuTime) -> CpuTime:
    """Sum of two windows; processes are those of the fuller one."""
    total: CpuTime = {}
    for name in [*one, *(name for name in other if name not in one)]:
        parts = [times[name] for times in (one, other) if name in times]
        total[name] = RoleTime(
            parts[0].group, max(part.processes for part in parts), sum(part.seconds for part in parts)
        )
    return total


class CpuMeter:
    """Meter of CPU time from start() to stop(). `missing` is the reason why it cannot measure, else None.

    `roles` given by the user look for processes on the whole machine; without them the listener's tree is measured.
    """

    def __init__(self, address: str, port: int, roles: Sequence[Role] = ()) -> None:
        self.missing: str | None = None
        self._port = port
        self._roles = roles
        self._before: dict[psutil.Process, float] = {}
        self._role_of: dict[psutil.Process, tuple[str, Group]] = {}
        if not is_local(address):
            self.missing = "the server runs on another machine"
        elif not self._look():
            self.missing = (
                "no process fits --cpu-roles"
                if roles
                else "the process that listens cannot be seen (another user's, in a container, or this one itself); "
                "name the server's processes with --cpu-roles"
            )

    def start(self) -> None:
        """Begin, with a new look for processes, so that replaced replicas are found."""
        if self.missing is None:
            self._look()
            self._before = {process: seconds for process in self._role_of if (seconds := _seconds(process)) is not None}

    def stop(self) -> CpuTime:
        """CPU time since start(). A process that began meanwhile counts whole, one that ended not at all."""
        if self.missing is not None:
            return {}
        after = {process: seconds for process in self._role_of if (seconds := _seconds(process)) is not None}
        for process in self._look():
            if process not in after and (seconds := _seconds(process)) is not None:
                after[process] = seconds
        used: defaultdict[str, RoleTime] = defaultdict(lambda: RoleTime("other"))
        for process, seconds in after.items():
            name, group = self._role_of[process]
            used[name].group = group
            used[name].processes += 1
            used[name].seconds += seconds - self._before.get(process, 0.0)
        if "HAProxy" in used and SERVE_PROXY in used:
            # Ray keeps its own proxy beside HAProxy; no token goes through it.
            used[SERVE_PROXY].group = "upkeep"
        return dict(used)

    def _look(self) -> list[psutil.Process]:
        found = matching_processes(self._roles) if self._roles else server_processes(self._port)
        for process in found:
            if process not in self._role_of:
                line = command_line(process)
                role = role_of(line, self._roles or ROLES)
                self._role_of[process] = (role.name, role.group) if role is not None else self._unknown(process)
        return found

    def _unknown(self, process: psutil.Process) -> tuple[str, Group]:
        """Role of a process outside the list: a server is at least known by listening."""
        try:
            if process in listeners(self._port):
                return "server", "front end"
            return process.name(), "other"
        except psutil.NoSuchProcess:
            return "ended", "other"


def _seconds(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return float(times.user + times.system)
