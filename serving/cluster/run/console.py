"""Output of `serving up` while it starts: stages with elapsed time, then how to call what runs."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import rich.console
import rich.status

from serving.engine.start_failure import StartFailure
from serving.settings.http import LOOPBACK
from serving.settings.tree import Settings

_STAGE_WORDS = {
    "model": "preparing the checkpoint",
    "engine import": "importing vLLM (10 to 20 s on a small machine)",
    "weights": "starting the engine and loading weights",
    "warm-up": "warming up",
}


class Console:
    """Lines for a log; on a terminal also a moving line with what goes on and for how long."""

    def __init__(self) -> None:
        self._console = rich.console.Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._stages: dict[str, str] = {}
        self._said = ""
        self._status: rich.status.Status | None = None
        self.listener: Callable[[str], None] | None = None
        """Told each line too."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end_status()

    def stage(self, part: str, stage: str) -> None:
        """A part has entered a stage; said once."""
        if self._stages.get(part) != stage:
            self._stages[part] = stage
            self.say(f"{part}: {_STAGE_WORDS.get(stage, stage)}")
        self.tick()

    def tick(self) -> None:
        """Time has passed."""
        if self._status is not None:
            self._status.update(f"{self._elapsed()} {self._said}")

    def say(self, line: str) -> None:
        """One line, unless it was the last one said."""
        if line != self._said:
            self._said = line
            self._console.print(f"[{self._elapsed()}] {line}", markup=False)
            if self.listener is not None:
                self.listener(line)

    def failed_start(self, model: str, failure: StartFailure) -> None:
        """A start of an engine has failed, and another one follows."""
        self.say(f"{model}: the engine did not start; trying again")
        for line in failure.lines():
            self.say(f"{model}:   {line}")

    def ready(self, message: str) -> None:
        """The last thing of a start."""
        self.say("ready")
        self._end_status()
        self._console.print(message, markup=False)

    def fail(self, message: str) -> None:
        """The start is over, without success."""
        self._end_status()
        self._console.print(f"error: {message}", markup=False)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started:6.1f} s"

    def _end_status(self) -> None:
        status, self._status = self._status, None
        if status is not None:
            status.stop()


def base_url(settings: Settings) -> str:
    """The API's base URL for clients on this machine."""
    host = settings.host
    if host in LOOPBACK or host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host != "::1" else "[::1]"
    elif ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.port}/v1"


def ready_message(settings: Settings) -> str:
    """The base URL and a command that works as pasted into a shell."""
    model = next(iter(settings.models))
    body = json.dumps(
        {
            "model": model,
            "reasoning_effort": "low",
            "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        }
    )
    url = base_url(settings)
    return (
        f"\nServing {', '.join(settings.models)} at {url}\n\n"
        f"curl {url}/chat/completions -H 'content-type: application/json' -d {shlex.quote(body)}\n\n"
        "Ctrl-C stops it."
    )
