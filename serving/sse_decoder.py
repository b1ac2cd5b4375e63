"""Server-sent events, from bytes as they come to the payload of each event.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; `event:`, `id:` and comments are passed over,
because OpenAI's payloads say themselves what they are.
"""

from __future__ import annotations

LARGEST_EVENT = 64 * 1024 * 1024
"""Bytes; a stream that goes on longer without an event's end is not one."""


class EventStream:
    """Payloads of one stream. `rest` is what has come of an unfinished event."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of all events that `data` completes. Raises ValueError for an event without an end."""
        if self.rest:
            data = self.rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        events = data.split(b"\n\n")
        self.rest = events.pop()
        if len(self.rest) > LARGEST_EVENT:
            raise ValueError(f"an event of more than {LARGEST_EVENT} bytes")
        return [payload for event in events if (payload := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
