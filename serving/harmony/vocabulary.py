"""Vocabulary o200k_harmony: text to token ids and back, and the ids of structure.

oss-harmony carries the vocabulary inside and needs no network.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Final, cast

from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding

from serving.harmony import pretokenize as stretches

FIRST_SPECIAL_ID: Final = 199998
"""Ids below are text, ids from here on are structure or reserved."""
STARTOFTEXT: Final = 199998
ENDOFTEXT: Final = 199999
RETURN: Final = 200002
CONSTRAIN: Final = 200003
CHANNEL: Final = 200005
START: Final = 200006
END: Final = 200007
MESSAGE: Final = 200008
CALL: Final = 200012

STOP_TOKEN_IDS: Final = (RETURN, CALL)
"""Tokens that end a generation: the answer is complete, or the model waits for a tool."""
MESSAGE_ENDS: Final = frozenset([END, RETURN, CALL])
"""Markers that end a message."""
BODY_ENDS: Final = MESSAGE_ENDS | {ENDOFTEXT}
"""Markers that end a body, one that belongs in no conversation included."""
TEXT_ENDS: Final = (*STOP_TOKEN_IDS, ENDOFTEXT)
"""Tokens that end a completion of raw text."""

VOCABULARY_SIZE: Final = 201088
"""Rows of gpt-oss's embedding; every id it can make is below."""


@functools.cache
def encoding() -> HarmonyEncoding:
    """Load oss-harmony's encoding; about 0.2 s the first time in a process."""
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def without_lone_surrogates(text: str) -> str:
    """Replace each lone surrogate in `text` by U+FFFD: JSON can carry lone surrogates, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def encode(text: str) -> list[int]:
    """Encode plain text as token ids. Text that spells special tokens becomes ordinary text tokens, never structure.

    Linear in the text's length whatever the text (see pretokenize.py). Lone surrogates become U+FFFD.
    """
    text = without_lone_surrogates(text)
    if stretches.is_plain(text):
        return _encode_ordinary(text)
    return [token for chunk in stretches.chunks(text) for token in _encode_ordinary(chunk)]


def _encode_ordinary(text: str) -> list[int]:
    return cast("list[int]", encoding().encode(text, disallowed_special=()))


def encode_harmony(text: str) -> list[int]:
    """Encode Harmony text: special tokens spelled out are special. For scripts and tests, never for input."""
    return cast("list[int]", encoding().encode(text, allowed_special="all"))


@functools.cache
def token_table() -> tuple[bytes, ...]:
    """Table of every token's bytes by its id; special tokens as spelled. 0.15 s and 12 MB, once in a process."""
    decode_one = encoding().decode
    return tuple(
        decode_one([token], errors="surrogateescape").encode("utf-8", "surrogateescape")
        for token in range(VOCABULARY_SIZE)
    )


def token_bytes(token_id: int) -> bytes:
    """The bytes of one token: often not a whole character. IndexError for an id that no gpt-oss model can make."""
    if token_id < 0:
        raise IndexError(f"token id {token_id} is negative")
    return token_table()[token_id]


def decode(token_ids: Iterable[int] | Sequence[int]) -> str:
    """Decode tokens to text, special tokens spelled out; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(map(token_bytes, token_ids)).decode("utf-8", "replace")
