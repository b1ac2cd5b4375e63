"""Message headers in token ids: for prompts and for interventions in a completion.

Each piece is tokenized by itself, as oss-harmony does and the model was trained on.
"""

from __future__ import annotations

import functools

from serving.harmony.channels import Channel
from serving.harmony.vocabulary import CHANNEL, CONSTRAIN, MESSAGE, START, encode


def message_header(author: str, channel: Channel | None = None) -> list[int]:
    """`<|start|>author<|message|>`, with `<|channel|>channel` before the last where there is one."""
    middle = () if channel is None else (CHANNEL, *word(channel))
    return [START, *word(author), *middle, MESSAGE]


def final_header() -> list[int]:
    """`<|start|>assistant<|channel|>final<|message|>`: an answer begins."""
    return message_header("assistant", "final")


def call_header(name: str, *, plain: bool = False) -> list[int]:
    """`<|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>`: arguments begin.

    A `plain` call has no ` <|constrain|>json`: its body is text.
    """
    return [*_call_channel(), *encode(f" to=functions.{name}"), *call_body(plain=plain)]


def call_body(*, plain: bool = False) -> list[int]:
    """The end of a call's header, after the function's name."""
    return [MESSAGE] if plain else [*word(" "), CONSTRAIN, *word("json"), MESSAGE]


def call_header_prefix(*, dot: bool = True) -> list[int]:
    """`<|start|>assistant<|channel|>commentary to=functions.`: a function's name comes next.

    A model writes the dot and the name's first letters as one token (`.get`). Where it is to write the name itself,
    leave the dot to it too (`dot=False`): the tokens are then the ones it was trained on.
    """
    return [*_call_channel(), *word(" to=functions." if dot else " to=functions")]


def prompt_end() -> list[int]:
    """`<|start|>assistant`, which every prompt ends in: the completion begins inside a header."""
    return [START, *word("assistant")]


@functools.lru_cache(maxsize=256)
def word(text: str) -> tuple[int, ...]:
    """Encode a short text that comes up often; cached."""
    return tuple(encode(text))


def _call_channel() -> list[int]:
    return [*prompt_end(), CHANNEL, *word("commentary")]
