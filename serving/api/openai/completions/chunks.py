"""Chunks of a streamed completion."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote

from serving.api.openai.chunks import Chunks


class TextChunks(Chunks):
    """Frames of one streamed completion; see Chunks."""

    KIND = "text_completion"

    def text(self, choice: int, text: str, logprobs: str | None = None) -> bytes:
        """More text; `logprobs` as JSON."""
        return (
            f'{self._head}{{"index":{choice},"text":{quote(text)},"logprobs":{logprobs or "null"},'
            f'"finish_reason":null}}{self._tail}'
        ).encode("ascii")

    def finish(self, choice: int, reason: str) -> bytes:
        """The last chunk of a choice."""
        return (
            f'{self._head}{{"index":{choice},"text":"","logprobs":null,"finish_reason":{quote(reason)}}}{self._tail}'
        ).encode("ascii")
