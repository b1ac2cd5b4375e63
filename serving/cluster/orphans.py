"""Orphans: engine processes of an earlier server, which hold memory that the new one needs."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

_ENGINE_PROCESS = "VLLM::"


def describe_orphans(processes: Iterable[psutil.Process] | None = None) -> list[str]:
    """One sentence for each orphan of this machine: its command line, the memory it holds, and how to end it.

    An engine process of a running server is no orphan: its parent is alive.
    """
    found = []
    for process in psutil.process_iter() if processes is None else processes:
        try:
            if process.status() == psutil.STATUS_ZOMBIE or not _is_engine(process) or _has_owner(process):
                continue
            held = process.memory_info().rss / 2**30
            found.append(
                f"{' '.join(process.cmdline())} is left from an earlier server and holds {held:.1f} GiB, and what it "
                f"has of a GPU's memory: kill {process.pid}"
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _is_engine(process: psutil.Process) -> bool:
    command = process.cmdline()
    return bool(command) and command[0].startswith(_ENGINE_PROCESS)


def _has_owner(process: psutil.Process) -> bool:
    """True if a process above it is alive, other than init and engine processes."""
    return any(parent.pid != 1 and not _is_engine(parent) for parent in process.parents())
