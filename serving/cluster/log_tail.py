"""Log lines of a Ray node's processes on stdout, as JSON: `python -m serving.cluster.log_tail`, beside Ray in each pod.

Ray gives each worker process files of its own below its session's folder, where `kubectl logs` and log collectors see
nothing, and which end with the pod. This process follows them from their first line, so that it also tells the last
lines of an engine that died. Standard library alone: it runs in a few megabytes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

PATTERNS = ("worker-*.err", "worker-*.out")
"""Files of worker processes: what replicas and their engines write. Ray's own are left where they are."""

LONGEST_LINE = 64 * 1024
"""Bytes of a line; the rest of a longer one is left out."""

_EVERY_S = 0.5
_MOST_AT_ONCE = 1024 * 1024
_NAME = re.compile(r"worker-[0-9a-f]+-[0-9a-f]+-(\d+)\.(?:err|out)")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_MARKER = re.compile(r":(?:actor_name|job_id|task_name):")
_CONTINUED = re.compile(r"\s|Traceback \(most recent call last\)|\w+(?:\.\w+)*(?:Error|Exception)\b")


class Follower:
    """New lines of one file since the last look.

    A file that has become shorter, or another one under its name, is read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._rest = b""

    def lines(self, *, all_of_it: bool = False) -> Iterator[str]:
        """Complete lines; with `all_of_it` an unfinished last one too. A file that is gone has none."""
        try:
            with self._path.open("rb") as file:
                inode, size = _inode_and_size(file.fileno())
                if inode != self._inode or size < self._offset:
                    self._inode, self._offset, self._rest = inode, 0, b""
                file.seek(self._offset)
                while block := file.read(_MOST_AT_ONCE):
                    self._offset += len(block)
                    *whole, self._rest = (self._rest + block).split(b"\n")
                    yield from (_text(line) for line in whole)
                    # What is beyond the longest line is left out now already, so that no line can fill the memory.
                    self._rest = self._rest[: LONGEST_LINE + 1]
        except FileNotFoundError:
            return
        if all_of_it and self._rest:
            yield _text(self._rest)
            self._rest = b""


class Tail:
    """Everything new in a folder of logs, handed line by line to `say`."""

    def __init__(self, folder: Path, say: Callable[[str], None], now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._say = say
        self._now = now
        self._files: dict[Path, Follower] = {}

    def look(self, *, last: bool = False) -> None:
        """Say what has come since the last look; with `last` unfinished lines too."""
        for pattern in PATTERNS:
            for path in sorted(self._folder.glob(pattern)):
                follower = self._files.setdefault(path, Follower(path))
                for line in self._events(path, follower.lines(all_of_it=last)):
                    self._say(line)

    def _events(self, path: Path, lines: Iterator[str]) -> Iterator[str]:
        """JSON as it is; of other lines one event each, with the lines of a traceback in the one they belong to."""
        pending: list[str] = []
        for line in lines:
            if not line or _MARKER.match(line):
                continue
            if _is_event(line):
                if pending:
                    yield self._wrapped(path, pending)
                    pending = []
                yield line
            elif pending and _CONTINUED.match(line):
                pending.append(line)
            else:
                if pending:
                    yield self._wrapped(path, pending)
                pending = [line]
        if pending:
            yield self._wrapped(path, pending)

    def _wrapped(self, path: Path, lines: Sequence[str]) -> str:
        level = _LEVEL.search(lines[0])
        pid = _NAME.fullmatch(path.name)
        fields: dict[str, object] = {
            "time": self._now().isoformat(timespec="milliseconds"),
            "level": level[1].lower() if level else ("error" if len(lines) > 1 else "info"),
            "logger": "process",
            "file": path.name,
        }
        if pid:
            fields["pid"] = int(pid[1])
        return json.dumps(fields | {"message": "\n".join(lines)}, ensure_ascii=False)


def _is_event(line: str) -> bool:
    """Whether a line is a JSON object, which goes on as it is. A dictionary that a process prints looks like one."""
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _inode_and_size(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size


def _text(line: bytes) -> str:
    cut = line[:LONGEST_LINE] + (b"..." if len(line) > LONGEST_LINE else b"")
    return cut.decode("utf-8", errors="replace").rstrip("\r")


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow the logs of the current session until told to stop, then say what is left of them."""
    parser = argparse.ArgumentParser(prog="python -m serving.cluster.log_tail", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("/tmp/ray/session_latest/logs"),
        help="the folder; Ray's unless set",
    )
    folder: Path = parser.parse_args(arguments).folder
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    tail = Tail(folder, say, lambda: datetime.now(UTC))
    try:
        while not stop.wait(_EVERY_S):
            tail.look()
            sys.stdout.flush()
        tail.look(last=True)
        sys.stdout.flush()
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
