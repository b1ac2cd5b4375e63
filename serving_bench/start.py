"""Entry from synchronous code: event loop, signals, open files."""

from __future__ import annotations

import asyncio
import resource
import signal

import uvloop

from serving_bench.report import Report
from serving_bench.session import Plan, Progress, Session


def measure(plan: Plan, progress: Progress) -> Report:
    """Run a plan and return its report; the first SIGINT or SIGTERM ends the measurement, not the report.

    Raises BenchError.
    """
    _allow_connections()
    return uvloop.run(_measure(plan, progress))


async def _measure(plan: Plan, progress: Progress) -> Report:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def on_signal() -> None:
        stop.set()
        for number in numbers:
            # The second one ends the process.
            loop.remove_signal_handler(number)

    previous = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        return await Session(plan, progress, stop).run()
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                # Removing leaves the default in place, not what the caller had.
                signal.signal(number, handler)


def _allow_connections() -> None:
    """Raise the soft limit of open files to the hard one: each request under way is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
