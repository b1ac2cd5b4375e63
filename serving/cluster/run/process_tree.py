"""Runs a command so that no process of it outlives us, however it ends.

Ray, vLLM and HAProxy start processes in sessions of their own that stay when their parents are killed. As a child
subreaper (prctl(2)) this process becomes the parent of all that lose theirs, and so can find every one of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TERMINATE_S = 3.0


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Runs one command and, when it ends or we are told to stop, ends everything that came of it.

    The command's last argument is the number of a pipe on which it writes a byte once it can stop by itself. Before
    that byte a signal ends all at once; after it
    the first SIGINT, SIGTERM or SIGHUP is passed on as SIGTERM and a second one ends all.
    """

    def __init__(self) -> None:
        self._signals = 0
        self._passed_on = False

    def run(self, command: Sequence[str], stdin: bytes, environment: dict[str, str]) -> int:
        """Returns the command's exit status; 130 when it was stopped before it could by itself."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        previous = {number: signal.signal(number, self._on_signal) for number in _STOP_SIGNALS}
        ready_read, ready_write = os.pipe()
        os.set_blocking(ready_read, False)
        try:
            child = subprocess.Popen(
                [*command, str(ready_write)],
                stdin=subprocess.PIPE,
                env=os.environ | environment,
                pass_fds=[ready_write],
                # Its own session: a terminal's Ctrl-C comes to us alone, and once.
                start_new_session=True,
            )
            os.close(ready_write)
            assert child.stdin is not None, "stdin is a pipe"
            with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
                pipe.write(stdin)
            return self._wait(child, ready_read)
        finally:
            end_descendants()
            os.close(ready_read)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _wait(self, child: subprocess.Popen[bytes], ready: int) -> int:
        while True:
            _reap(but=child.pid)
            status = child.poll()
            if status is not None:
                return status if status >= 0 else 1
            if self._signals and not self._passed_on:
                if not _has_byte(ready):
                    return 130
                self._passed_on = True
                self._signals = 0
                child.send_signal(signal.SIGTERM)
            elif self._signals:
                return 130
            time.sleep(0.1)


def end_descendants() -> None:
    """End every process below this one, first kindly, and reap them. Returns when there are none."""
    me = psutil.Process()
    deadline = time.monotonic() + _TERMINATE_S
    asked: set[int] = set()
    while remaining := [each for each in me.children(recursive=True) if _is_alive(each)]:
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process.pid not in asked:
                    asked.add(process.pid)
                    process.terminate()
        _reap()
        time.sleep(0.05)
    _reap()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _reap(but: int | None = None) -> None:
    """Collect what has ended, orphans given to us included; `but` is somebody else's to collect."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == but:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def _has_byte(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:
        return False


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
