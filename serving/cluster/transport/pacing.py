"""Pacing of the frames to one peer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from serving.cluster.transport.frames import End, Entry, joined
from serving.engine.load import EngineLoad

_BUSY_STREAMS = 32
"""Streams of one engine and one ingress replica from which on frames are paced in full."""
_CALMER = 0.75
"""Part that a frame with fewer streams leaves of the number before: one frame of first tokens is no sign of calm."""
_AGAIN_S = 0.01
"""Wait before a peer whose queue was full is sent to again."""
_EARLY_S = 0.001
"""Timers of an event loop may be early by so much."""


class Send(Protocol):
    """Sends one frame. False: the peer's queue is full, and the same is to be sent later."""

    def __call__(self, entries: list[Entry], taken: list[bytes], ends: list[End], load: EngineLoad | None) -> bool:
        """See Send."""
        ...


class PacedFrames:
    """Gathers what one peer is to have and gives it to `send`, one frame for what an engine's step made.

    Frames leave `pace_s` seconds apart when many streams share them, in proportion sooner when few do, and a stream's
    first tokens go at once. So do ends, with the last tokens of the streams that they end and nobody else's. Everything
    runs on the event loop that calls the methods.
    """

    def __init__(self, pace_s: float, send: Send) -> None:
        self._pace_s = pace_s
        self._send_frame = send
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, Entry] = {}  # by stream; of one step, or of pace_s seconds
        self._taken: list[bytes] = []
        self._ends: list[End] = []
        self._load: EngineLoad | None = None
        self._streams = 0.0
        self._due = float("inf")
        self._not_before = 0.0
        self._flush: asyncio.Handle | None = None
        self._flush_at = 0.0

    def add(self, new: Entry, *, urgent: bool) -> None:
        """Send new tokens of a stream; `urgent` ones at once, and with them those that wait."""
        self._gather(new)
        self._due = 0.0 if urgent else min(self._due, self._not_before)
        self._flush_by(self._due)

    def take(self, stream: bytes) -> None:
        """Say at once that a call has come."""
        self._taken.append(stream)
        self._flush_by(0.0)

    def end(self, end: End, last: Entry | None) -> None:
        """Send a stream's last tokens and its end at once."""
        if last is not None:
            self._gather(last)
        self._ends.append(end)
        self._flush_by(0.0)

    def report(self, load: EngineLoad) -> None:
        """Send the load with the next frame."""
        self._load = load
        self._flush_by(self._not_before)

    def close(self) -> None:
        """Send nothing more."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _gather(self, new: Entry) -> None:
        before = self._waiting.get(new.stream)
        self._waiting[new.stream] = new if before is None else joined(before, new)

    def _flush_by(self, at: float) -> None:
        if self._flush is not None and at >= self._flush_at:
            return
        if self._flush is not None:
            self._flush.cancel()
        # Once the loop is free: by then the whole step is here.
        self._flush_at = at
        later = at > self._loop.time()
        self._flush = self._loop.call_at(at, self._send) if later else self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._flush = None
        now = self._loop.time()
        if self._due <= now + _EARLY_S:
            entries = list(self._waiting.values())
        else:
            entries = [self._waiting[end.stream] for end in self._ends if end.stream in self._waiting]
        if not self._send_frame(entries, self._taken, self._ends, self._load):
            self._flush_by(now + _AGAIN_S)
            return
        self._taken, self._ends, self._load = [], [], None
        if len(entries) == len(self._waiting):
            self._waiting, self._due = {}, float("inf")
            if entries:  # a report alone says nothing of the pace
                self._streams = max(len(entries), self._streams * _CALMER)
                self._not_before = now + self._pace_s * min(1.0, self._streams / _BUSY_STREAMS)
            return
        for entry in entries:
            del self._waiting[entry.stream]
        self._flush_by(self._due)
