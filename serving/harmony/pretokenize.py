"""Cuts of a text before tokenization, so that no input makes tokenization slow or makes it fail.

The tokenizer first splits text into words by a regular expression, then merges bytes inside each word. The merge is
quadratic in the word's length (100,000 letters in a row took 27 s) and the expression panics on a million characters
in a row. Ordinary words are short; only a stretch of text without a boundary is dangerous, so only those are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LIMIT = 512
"""Longest word, in characters, that is tokenized in one go: about 0.7 ms at worst."""

# A letter before one of these always ends a word, so a cut there leaves the tokens as they were. No apostrophe
# ("it's" is one word) and no digits (the expression takes them in threes). The last ones are CJK: U+3001, 3002, 300C
# and 300D are comma, stop and brackets, those from U+FF01 are the full-width forms of ! ( ) , : ; ?
_BOUNDARY = (
    r"[^\W\d_](?=[\s,.;:!?()\[\]{}\"<>=/"
    r"\u3001\u3002\u300c\u300d\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f])"
)
_CHUNK = re.compile(rf".{{1,{_LIMIT - 1}}}{_BOUNDARY}|.{{1,{_LIMIT}}}", re.DOTALL)
_BLANKS = re.compile(rf"\s{{{_LIMIT}}}")


def is_plain(text: str) -> bool:
    """True where no word can exceed the limit: a word is all blanks, or has no space after its first character."""
    return max(map(len, text.split(" "))) < _LIMIT and _BLANKS.search(text) is None


def chunks(text: str) -> Iterator[str]:
    """Cut into pieces of at most 512 characters that join to `text`, cut between words wherever there is a boundary."""
    return (match.group() for match in _CHUNK.finditer(text))
