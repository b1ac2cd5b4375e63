"""Raw text and tokens, without the conversation format: special tokens are left out, or spelled as they are."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterable, Sequence

from serving.harmony.vocabulary import FIRST_SPECIAL_ID, encode, token_table

_SPECIAL = re.compile(r"<\|[a-z0-9_]+\|>")


def encode_raw(text: str, *, allow_special: bool) -> list[int]:
    """Encode `text`; with `allow_special`, `<|start|>` and its like mean the special tokens they spell.

    Linear in the text's length, as encode() is.
    """
    if not allow_special:
        return encode(text)
    ids = _special_tokens()
    tokens: list[int] = []
    begin = 0
    for match in _SPECIAL.finditer(text):
        if match.group() in ids:
            tokens += encode(text[begin : match.start()])
            tokens.append(ids[match.group()])
            begin = match.end()
    return tokens + encode(text[begin:])


def decode_raw(token_ids: Sequence[int], *, skip_special: bool) -> str:
    """Decode tokens to text; bytes that are not UTF-8 become U+FFFD. IndexError for ids that no gpt-oss model has."""
    decoder = RawDecoder(skip_special=skip_special)
    return decoder.feed(token_ids) + decoder.finish()


class RawDecoder:
    """Decoder of tokens that come in pieces: a character cut between two pieces waits until it is whole."""

    __slots__ = ("_skip_special", "_utf8")

    def __init__(self, *, skip_special: bool) -> None:
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_ids: Iterable[int]) -> str:
        """Return the text that is whole with these tokens. A special token ends the text before it."""
        table = token_table()
        parts: list[str] = []
        pending: list[bytes] = []
        for token_id in token_ids:
            if token_id < FIRST_SPECIAL_ID:
                pending.append(table[token_id])
                continue
            parts.append(self._utf8.decode(b"".join(pending), True))
            pending.clear()
            if not self._skip_special:
                parts.append(table[token_id].decode())
        parts.append(self._utf8.decode(b"".join(pending)))
        return "".join(parts)

    def finish(self) -> str:
        """End the text: return U+FFFD for a character that never was whole."""
        return self._utf8.decode(b"", True)


@functools.cache
def _special_tokens() -> dict[str, int]:
    """Ids by how they are spelled."""
    return {spelled.decode(): FIRST_SPECIAL_ID + i for i, spelled in enumerate(token_table()[FIRST_SPECIAL_ID:])}
