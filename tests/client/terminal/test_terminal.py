"""`serving chat` as a person meets it: on a terminal of its own, and in a pipe."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from serving.cli import main
from serving.harmony.vocabulary import decode

if TYPE_CHECKING:
    from tests.client.conftest import Server, Until

COMMAND = (sys.executable, "-c", "from serving.cli import main; main()", "chat")


class Terminal:
    """A pseudo-terminal with `serving chat` on it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._descriptor = descriptor
        self._shown = b""
        self._read_until = 0

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, text: str, deadline_s: float = 60.0) -> str:
        """What is shown, without colours, up to the next `text`."""
        deadline = time.monotonic() + deadline_s
        while True:
            shown = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", self._shown.decode(errors="replace"))
            begin, found = self._read_until, shown.find(text, self._read_until)
            if found >= 0:
                self._read_until = found + len(text)
                return shown[begin : self._read_until]
            if select.select([self._descriptor], [], [], 0.1)[0]:
                self._shown += os.read(self._descriptor, 4096)
            elif time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"{text!r} was not shown, but {shown[begin:]!r}")


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
        assert "analysis: Somebody greets me." in shown.wait_for("tokens/s")
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


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`serving chat` in this process, its standard input a pipe that holds a question."""

    def run(question: str, *flags: str) -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(question))
        with pytest.raises(SystemExit) as stopped:
            main(["chat", *flags])
        captured = capsys.readouterr()
        assert stopped.value.code is None or isinstance(stopped.value.code, int)
        return Outcome(stopped.value.code or 0, captured.out, captured.err)

    return run


def test_a_pipe_gets_the_answer_alone(server: Server, pipe: Callable[..., Outcome]) -> None:
    assert pipe("Hello!", "--url", server.url.removesuffix("/v1"), "--effort", "low") == (0, "Hello there!\n", "")
    assert "Reasoning: low" in decode(server.engine.prompts[0])


def test_the_key_comes_from_a_variable(
    server: Server, pipe: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_KEY", "a key with blanks")
    outcome = pipe("Hello!", "--url", server.url, "--api-key-env", "TEAM_KEY")
    assert (outcome.status, outcome.out) == (2, "")
    assert "--api-key-env" in outcome.err
    assert "a key with blanks" not in outcome.err
    assert "is not set" in pipe("Hello!", "--url", server.url, "--api-key-env", "NO_SUCH_KEY").err


@pytest.mark.parametrize(
    ("url", "question", "status", "words"),
    [
        ("http://127.0.0.1:9/v1", "Hello!", 1, "error: No server answers at http://127.0.0.1:9/v1: start one"),
        ("http://127.0.0.1:9/v1", "", 2, "standard input: is empty"),
        ("ftp://127.0.0.1", "Hello!", 2, "--url: should be a base URL"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    pipe: Callable[..., Outcome], url: str, question: str, status: int, words: str
) -> None:
    outcome = pipe(question, "--url", url)
    assert (outcome.status, outcome.out) == (status, "")
    assert words in outcome.err
