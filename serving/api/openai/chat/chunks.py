"""Chunks of a streamed chat completion. Source: OpenAI's chat completion chunk object."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote

from serving.api.openai.chat.style import ReplyStyle
from serving.api.openai.chunks import Chunks
from serving.generation.answer import BETWEEN_MESSAGES
from serving.harmony.channels import Channel


class ChatChunks(Chunks):
    """Frames of one streamed chat completion; see Chunks."""

    KIND = "chat.completion.chunk"

    def __init__(
        self, completion_id: str, created: int, model: str, style: ReplyStyle, *, include_usage: bool = False
    ) -> None:
        super().__init__(completion_id, created, model, include_usage=include_usage)
        self._open = '},"logprobs":null,"finish_reason":null}' + self._tail
        self._style = style
        self._starts: dict[tuple[int, str], tuple[str, str]] = {}
        self._begun: set[tuple[int, str]] = set()

    def role(self, choice: int) -> bytes:
        """Return the first chunk of a choice, which has the role."""
        delta = '{"role":"assistant","content":"","refusal":null'
        return f'{self._head}{{"index":{choice},"delta":{delta}{self._open}'.encode("ascii")

    def text(self, choice: int, channel: Channel, text: str) -> bytes:
        """Return a chunk of text on a channel."""
        starts = self._starts.get((choice, channel))
        if starts is None:
            first, again = self._keys(channel)
            starts = f'{self._head}{{"index":{choice},"delta":{{{first}', again
            self._starts[choice, channel] = starts
        start, again = starts
        said = quote(text)
        return (start + said + again + said + self._open if again else start + said + self._open).encode("ascii")

    def rich_text(self, choice: int, channel: Channel, text: str, *, opens: bool, logprobs: str | None = None) -> bytes:
        """As text(), with what few chunks have: the channel's name where it opens; logprobs, as JSON.

        The name stands beside the delta: clients that add up deltas would join the names.
        """
        if opens and channel != "analysis":
            text = self._apart(choice, channel, text)
        named = f'"channel":"{channel}",' if opens else ""
        first, again = self._keys(channel)
        said = quote(text)
        return (
            f'{self._head}{{"index":{choice},{named}"delta":{{{first}{said}{again}{said if again else ""}}},'
            f'"logprobs":{logprobs or "null"},"finish_reason":null}}{self._tail}'
        ).encode("ascii")

    def _keys(self, channel: Channel) -> tuple[str, str]:
        """Keys of a channel's text: of its first field, and of the second, which is "" where there is one alone."""
        first, *others = self._style.fields[channel]
        return f'"{first}":', f',"{others[0]}":' if others else ""

    def _apart(self, choice: int, channel: Channel, text: str) -> str:
        """Text that opens a message, set apart from the messages before it in the same fields."""
        places = {(choice, field) for field in self._style.fields[channel]}
        follows = not places.isdisjoint(self._begun)
        self._begun |= places
        return BETWEEN_MESSAGES + text if follows else text

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
