"""Common part of the chunks of OpenAI's two completion streams: head, end, and the usage at last.

Chunks are put together as text around JSON-escaped strings: no dictionaries and no models for each token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from serving.api.streaming.sse import frame, halves


class Chunks:
    """Frames of one streamed completion.

    `completion_id`, `created` (seconds since the epoch) and `model` are the same in all of them. With
    `include_usage` every chunk says `"usage":null`, as OpenAI's do, and the caller sends `usage()` last.
    """

    KIND: str
    """The chunks' `object`."""

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool = False) -> None:
        self._begin = (
            f'{{"id":{quote(completion_id)},"object":"{self.KIND}","created":{created},'
            f'"model":{quote(model)},"choices":['
        )
        self._head, self._tail = halves(self._begin, '],"usage":null}' if include_usage else "]}")

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """Return the chunk after all choices, which has the usage and no choice."""
        return frame(f'{self._begin}],"usage":{json.dumps(usage)}}}').encode("ascii")
