"""Chunks of a streamed chat completion. Source: OpenAI's chat completion chunk object."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote

from serving.api.openai.chunks import Chunks
from serving.harmony.channels import FIELDS, Channel


class ChatChunks(Chunks):
    """Frames of one streamed chat completion; see Chunks."""

    KIND = "chat.completion.chunk"

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool = False) -> None:
        super().__init__(completion_id, created, model, include_usage=include_usage)
        self._open = '},"logprobs":null,"finish_reason":null}' + self._tail
        self._starts: dict[tuple[int, str], str] = {}

    def role(self, choice: int) -> bytes:
        """Return the first chunk of a choice, which has the role."""
        delta = '{"role":"assistant","content":"","refusal":null'
        return f'{self._head}{{"index":{choice},"delta":{delta}{self._open}'.encode("ascii")

    def text(self, choice: int, channel: Channel, text: str) -> bytes:
        """Return a chunk of text on a channel."""
        start = self._starts.get((choice, channel))
        if start is None:
            start = f'{self._head}{{"index":{choice},"delta":{{"{FIELDS[channel]}":'
            self._starts[choice, channel] = start
        return (start + quote(text) + self._open).encode("ascii")

    def rich_text(self, choice: int, channel: Channel, text: str, *, opens: bool, logprobs: str | None = None) -> bytes:
        """As text(), with what few chunks have: the channel's name where it opens; logprobs, as JSON."""
        named = f'"channel":"{channel}",' if opens else ""
        return (
            f'{self._head}{{"index":{choice},"delta":{{{named}"{FIELDS[channel]}":{quote(text)}}},'
            f'"logprobs":{logprobs or "null"},"finish_reason":null}}{self._tail}'
        ).encode("ascii")

    def tool_call(self, choice: int, index: int, call_id: str, name: str) -> bytes:
        """Return the chunk that begins a call."""
        function = f'{{"name":{quote(name)},"arguments":""}}'
        call = f'{{"index":{index},"id":{quote(call_id)},"type":"function","function":{function}}}'
        return f'{self._head}{{"index":{choice},"delta":{{"tool_calls":[{call}]{self._open}'.encode("ascii")

    def tool_arguments(self, choice: int, index: int, text: str) -> bytes:
        """Return a chunk of a call's arguments."""
        call = f'{{"index":{index},"function":{{"arguments":{quote(text)}}}}}'
        return f'{self._head}{{"index":{choice},"delta":{{"tool_calls":[{call}]{self._open}'.encode("ascii")

    def finish(self, choice: int, reason: str, members: str = "") -> bytes:
        """The last chunk of a choice; `members`, JSON without its braces, are the delta's."""
        return (
            f'{self._head}{{"index":{choice},"delta":{{{members}}},"logprobs":null,'
            f'"finish_reason":{quote(reason)}}}{self._tail}'
        ).encode("ascii")
