"""Events of a streamed message, as bytes.

Deltas are put together as text around JSON-escaped strings; what comes once a block is dumped.
Source: Anthropic's reference of streaming messages; the order is what its client's stream helper needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from serving.api.anthropic.messages.response import (
    UNSIGNED,
    AnswerBlock,
    AppliedEdits,
    MessageReply,
    MessageUsage,
    StopReason,
)
from serving.api.streaming.sse import compact, frame, halves

# The delta of each type of block: its type, and the field that has the text.
_DELTAS = {
    "thinking": '{"type":"thinking_delta","thinking":',
    "text": '{"type":"text_delta","text":',
    "tool_use": '{"type":"input_json_delta","partial_json":',
}


def _event(kind: str, /, **fields: Any) -> str:
    return frame(compact({**fields, "type": kind}), kind)


PING = _event("ping").encode("ascii")
MESSAGE_STOP = _event("message_stop").encode("ascii")


def error_event(body: Mapping[str, Any]) -> bytes:
    """An error in a stream that has begun; `body` is Anthropic's error JSON. The stream ends after it."""
    return _event("error", **body).encode("ascii")


class MessageEvents:
    """Events of one message in order; take() returns those made since its last call.

    A block is begun, gets its text in pieces, and is ended before the next is begun.
    """

    def __init__(self) -> None:
        self._frames: list[str] = []
        self._index = -1
        self._delta_head = ""
        self._delta_tail = ""
        self._signs = False

    def take(self) -> bytes:
        """Frames made since the last call; b"" for none."""
        frames, self._frames = "".join(self._frames), []
        return frames.encode("ascii")

    def start(self, message: MessageReply) -> None:
        """Add the first event: the message before its first block."""
        self._frames.append(_event("message_start", message=message))

    def begin(self, block: AnswerBlock) -> None:
        """Begin the next block, empty."""
        self._index += 1
        self._signs = block["type"] == "thinking"
        self._frames.append(_event("content_block_start", index=self._index, content_block=block))
        before = f'{{"type":"content_block_delta","index":{self._index},"delta":{_DELTAS[block["type"]]}'
        self._delta_head, self._delta_tail = halves(before, "}}", "content_block_delta")

    def grow(self, text: str) -> None:
        """Add text to the open block."""
        self._frames.append(f"{self._delta_head}{quote(text)}{self._delta_tail}")

    def end(self) -> None:
        """End the open block."""
        if self._signs:
            delta = {"type": "signature_delta", "signature": UNSIGNED}
            self._frames.append(_event("content_block_delta", index=self._index, delta=delta))
        self._frames.append(_event("content_block_stop", index=self._index))

    def finish(
        self, reason: StopReason, stop_sequence: str | None, usage: MessageUsage, edits: AppliedEdits | None
    ) -> None:
        """Add the event before the last: why the message ended, its usage, and the edits of its context."""
        delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
        context = {} if edits is None else {"context_management": edits}
        self._frames.append(_event("message_delta", delta=delta, usage=usage, **context))
