"""Server-sent events: the one place that spells a frame.

Data is ASCII on a single line, so that no client's notion of a line end (U+2028, U+0085) can cut a frame in two.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_GAP = "\0"


def frame(data: str, event: str | None = None) -> str:
    """One event with `data`, and with its type where the stream's events have one."""
    return f"data: {data}\n\n" if event is None else f"event: {event}\ndata: {data}\n\n"


def halves(before: str, after: str, event: str | None = None) -> tuple[str, str]:
    """Fixed head and tail of frames whose data differs in the middle alone.

    For deltas: putting the middle between two strings costs less for each token than frame().
    """
    head, _, tail = frame(f"{before}{_GAP}{after}", event).partition(_GAP)
    return head, tail


def compact(data: Mapping[str, Any]) -> str:
    """JSON without blanks, in ASCII."""
    return json.dumps(data, separators=(",", ":"))


DONE = frame("[DONE]").encode("ascii")
"""The last frame of OpenAI's streams of chunks."""
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients pass over."""


def error_frame(body: Mapping[str, Any]) -> bytes:
    """An error in a stream that has begun; `body` is Errors in OpenAI's form. The stream ends after it."""
    return frame(json.dumps(body)).encode("ascii")
