"""Server-sent events: frames of OpenAI's streams as bytes.

Chat chunks are put together as text around JSON-escaped strings: no dictionaries and no models for each token.
Everything is ASCII, so that no client's notion of a line end (U+2028, U+0085) can cut a frame in two.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html and OpenAI's chat completion chunk object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quote
from typing import Any

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

# The delta's field for each of Harmony's channels.
_FIELDS = {"analysis": "reasoning", "commentary": "commentary", "final": "content"}


def error_frame(body: Mapping[str, Any]) -> bytes:
    """An error in a stream that has begun; `body` is OpenAI's error JSON. The stream ends after it."""
    return f"data: {json.dumps(body)}\n\n".encode("ascii")


class ChatChunks:
    """The frames of one streamed chat completion.

    `completion_id`, `created` (seconds since the epoch) and `model` are the same in all of them. With
    `include_usage` every chunk says `"usage":null`, as OpenAI's do, and the caller sends `usage()` last.
    """

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool = False) -> None:
        self._head = (
            f'data: {{"id":{quote(completion_id)},"object":"chat.completion.chunk","created":{created},'
            f'"model":{quote(model)},"choices":['
        )
        self._tail = '],"usage":null}\n\n' if include_usage else "]}\n\n"
        self._open = '},"logprobs":null,"finish_reason":null}' + self._tail
        self._starts: dict[tuple[int, str], str] = {}

    def role(self, choice: int) -> bytes:
        """The first chunk of a choice: it says who speaks."""
        delta = '{"role":"assistant","content":"","refusal":null'
        return f'{self._head}{{"index":{choice},"delta":{delta}{self._open}'.encode("ascii")

    def text(self, choice: int, channel: str, text: str) -> bytes:
        """More text on a channel."""
        start = self._starts.get((choice, channel))
        if start is None:
            start = f'{self._head}{{"index":{choice},"delta":{{"{_FIELDS[channel]}":'
            self._starts[choice, channel] = start
        return (start + quote(text) + self._open).encode("ascii")

    def rich_text(self, choice: int, channel: str, text: str, *, opens: bool, logprobs: str | None = None) -> bytes:
        """As text(), with what few chunks have: the channel's name where it opens; logprobs, as JSON."""
        named = f'"channel":"{channel}",' if opens else ""
        return (
            f'{self._head}{{"index":{choice},"delta":{{{named}"{_FIELDS[channel]}":{quote(text)}}},'
            f'"logprobs":{logprobs or "null"},"finish_reason":null}}{self._tail}'
        ).encode("ascii")

    def tool_call(self, choice: int, index: int, call_id: str, name: str) -> bytes:
        """A call begins."""
        function = f'{{"name":{quote(name)},"arguments":""}}'
        call = f'{{"index":{index},"id":{quote(call_id)},"type":"function","function":{function}}}'
        return f'{self._head}{{"index":{choice},"delta":{{"tool_calls":[{call}]{self._open}'.encode("ascii")

    def tool_arguments(self, choice: int, index: int, text: str) -> bytes:
        """More of a call's arguments."""
        call = f'{{"index":{index},"function":{{"arguments":{quote(text)}}}}}'
        return f'{self._head}{{"index":{choice},"delta":{{"tool_calls":[{call}]{self._open}'.encode("ascii")

    def finish(self, choice: int, reason: str, members: str = "") -> bytes:
        """The last chunk of a choice; `members`, JSON without its braces, are the delta's."""
        return (
            f'{self._head}{{"index":{choice},"delta":{{{members}}},"logprobs":null,'
            f'"finish_reason":{quote(reason)}}}{self._tail}'
        ).encode("ascii")

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The chunk after all choices, without any: what the answer cost."""
        return f'{self._head}],"usage":{json.dumps(usage)}}}\n\n'.encode("ascii")
