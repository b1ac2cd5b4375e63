"""Outcome of one request. Times are seconds of one monotonic clock."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

CHANNELS = ("content", "reasoning", "commentary", "tool")
"""Kinds of text in a reply, in the order of all per-channel lists. `tool` is names and arguments of tool calls."""
CONTENT, REASONING, COMMENTARY, TOOL = range(len(CHANNELS))

INTERRUPTED = "interrupted"
"""Not an error of the server's: Ctrl-C came first."""
REFUSED = "cannot connect"
TIMEOUT = "timeout"
BROKEN_STREAM = "broken stream"
BAD_CHUNK = "bad chunk"
ERROR_IN_STREAM = "error in stream"
NOT_SENT = "not sent"
"""The open loop had as many requests open as it may."""


@dataclass(slots=True)
class Usage:
    """Tokens as the server counts them; None for what it does not tell."""

    prompt: int
    completion: int
    reasoning: int | None = None
    cached: int | None = None


@dataclass(slots=True)
class Outcome:
    """Outcome of one request, filled in as its reply comes.

    `started` is when the request was due: in an open loop the planned arrival, so that a generator that runs late
    does not flatter the server. `chunk_times` has one entry for each chunk with text; `chunks` and `characters` are
    per channel. `error` is the kind of what went wrong, `detail` words about it.
    """

    number: int
    started: float
    ended: float = 0.0
    first_text: float | None = None
    first_content: float | None = None
    chunk_times: array[float] = field(default_factory=lambda: array("d"))
    chunks: list[int] = field(default_factory=lambda: [0] * len(CHANNELS))
    characters: list[int] = field(default_factory=lambda: [0] * len(CHANNELS))
    usage: Usage | None = None
    finish: str | None = None
    error: str | None = None
    detail: str = ""

    def text(self, channel: int, length: int, now: float) -> None:
        """Count a chunk of `length` characters (1 or more) on a channel."""
        if self.first_text is None:
            self.first_text = now
        if channel == CONTENT and self.first_content is None:
            self.first_content = now
        self.chunk_times.append(now)
        self.chunks[channel] += 1
        self.characters[channel] += length

    def fail(self, kind: str, detail: str = "") -> None:
        """Note an error; the first one stays."""
        if self.error is None:
            self.error = kind
            self.detail = " ".join(detail.split())[:200]
