"""`serving chat` as a person meets it: on a terminal of its own, and in a pipe."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.client.conftest import Server, Until

COMMAND = [sys.executable, "-c", "from serving.cli import main; main()", "chat"]


class Terminal:
    """A pseudo-terminal with `serving chat` on it. `seen` is all it has shown, without colours."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = ""
        self._descriptor = descriptor

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, text: str, deadline_s: float = 60.0) -> None:
        """Read until `text` is shown after what was waited for before."""
        deadline = time.monotonic() + deadline_s
        self.seen = ""
        while text not in self.seen:
            readable, _, _ = select.select([self._descriptor], [], [], 0.1)
            if not readable:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    pytest.fail(f"{text!r} was not shown, but {self.seen!r}")
                continue
            self.seen += re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", os.read(self._descriptor, 4096).decode())


@contextlib.contextmanager
def terminal(server: Server) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "TTY": os.ttyname(slave)}
    # What the first process of a session opens becomes its terminal, where Ctrl-C is a signal.
    command = ["sh", "-c", 'exec "$@" <"$TTY" >"$TTY" 2>&1', "sh", *COMMAND, "--url", server.url]
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def test_a_chat_with_an_answer_that_is_stopped(server: Server, until: Until) -> None:
    with terminal(server) as shown:
        shown.wait_for("> ")
        shown.type("Hello!\n")
        shown.wait_for("tokens/s")
        assert "analysis: Somebody greets me." in shown.seen
        shown.wait_for("> ")
        shown.type("slowly\n")
        shown.wait_for("word word")
        shown.type("\x03")  # Ctrl-C
        shown.wait_for("stopped")
        until(lambda: server.engine.running == 0)
        shown.wait_for("> ")
        shown.type("Hello!\n")
        shown.wait_for("tokens/s")
        shown.wait_for("> ")
        shown.type("\x04")  # Ctrl-D
        assert shown.process.wait(timeout=20) == 0


def run(server_url: str, question: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--url", server_url, *flags], input=question, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_pipe_gets_the_answer_alone(server: Server) -> None:
    done = run(server.url.removesuffix("/v1"), "Hello!", "--effort", "low")
    assert (done.stdout, done.stderr, done.returncode) == ("Hello there!\n", "", 0)


@pytest.mark.parametrize(
    ("url", "question", "status", "words"),
    [
        ("http://127.0.0.1:9/v1", "Hello!", 1, "error: No server answers at http://127.0.0.1:9/v1: start one"),
        ("http://127.0.0.1:9/v1", "", 2, "standard input: is empty"),
        ("ftp://127.0.0.1", "Hello!", 2, "--url: should be a base URL"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(url: str, question: str, status: int, words: str) -> None:
    done = run(url, question)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
