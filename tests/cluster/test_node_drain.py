from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from serving.cluster.node_drain import node_id, replicas, wait_until_empty

# Ray titles its processes as setproctitle does; argv[0] is what reads back.
TITLED = "import os, sys; os.execv(sys.executable, [sys.argv[1], '-c', 'import sys; sys.stdin.read()', *sys.argv[2:]])"


@contextmanager
def process(title: str, *arguments: str) -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, "-c", TITLED, title, *arguments], stdin=subprocess.PIPE)
    try:
        found = psutil.Process(child.pid)
        deadline = time.monotonic() + 10
        while found.cmdline()[:1] != [title]:
            assert time.monotonic() < deadline, found.cmdline()
            time.sleep(0.01)
        yield found
    finally:
        child.kill()
        child.wait()
        if child.stdin:
            child.stdin.close()


def test_replicas_are_told_from_other_processes() -> None:
    with (
        process("ray::ServeReplica:gpt-oss-serving:engine-demo") as replica,
        process("ray::ServeController.run_control_loop") as controller,
    ):
        assert replicas([replica, controller]) == 1
    assert replicas([replica]) == 0, "one that has ended"


def test_the_node_id_is_what_the_raylet_was_started_with() -> None:
    with process("raylet", "--node_ip_address=10.0.0.1", "--node_id=abc123") as raylet:
        assert node_id([psutil.Process(), raylet]) == "abc123"
    assert node_id([psutil.Process()]) is None


@pytest.mark.parametrize(("counts", "left"), [([0], 0), ([2, 1, 0], 0), ([1] * 50, 1)])
def test_it_waits_until_the_node_is_empty_or_the_deadline(counts: list[int], left: int) -> None:
    clock = 0.0

    def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    remaining = iter(counts)
    assert wait_until_empty(lambda: next(remaining), 10, lambda: clock, sleep) == left
    assert clock == (10 if left else len(counts) - 1)
