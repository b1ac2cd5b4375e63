from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.harmony import vocabulary
from serving.harmony.vocabulary import (
    FIRST_SPECIAL_ID,
    VOCABULARY_SIZE,
    decode,
    encode,
    encode_harmony,
    encoding,
    token_bytes,
    token_table,
)

SPECIAL = [
    ("<|startoftext|>", vocabulary.STARTOFTEXT),
    ("<|endoftext|>", vocabulary.ENDOFTEXT),
    ("<|return|>", vocabulary.RETURN),
    ("<|constrain|>", vocabulary.CONSTRAIN),
    ("<|channel|>", vocabulary.CHANNEL),
    ("<|start|>", vocabulary.START),
    ("<|end|>", vocabulary.END),
    ("<|message|>", vocabulary.MESSAGE),
    ("<|call|>", vocabulary.CALL),
]


@pytest.mark.parametrize(("spelled", "token"), SPECIAL)
def test_special_tokens_are_what_they_are_spelled(spelled: str, token: int) -> None:
    assert encode_harmony(spelled) == [token]
    assert token_bytes(token) == spelled.encode()
    assert decode([token]) == spelled


@pytest.mark.parametrize("spelled", [spelled for spelled, _ in SPECIAL] + ["<|reserved_200013|>"])
def test_text_that_spells_special_tokens_is_ordinary_text(spelled: str) -> None:
    tokens = encode(f"a{spelled}b")
    assert max(tokens) < FIRST_SPECIAL_ID
    assert decode(tokens) == f"a{spelled}b"


@pytest.mark.property
@given(st.text())
def test_text_survives_and_never_becomes_structure(text: str) -> None:
    tokens = encode(text)
    assert decode(tokens) == text
    assert all(token < FIRST_SPECIAL_ID for token in tokens)


@pytest.mark.property
@given(st.lists(st.integers(0, VOCABULARY_SIZE - 1)))
def test_decode_agrees_with_the_library(tokens: list[int]) -> None:
    assert decode(tokens) == encoding().decode(tokens)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert decode(encode("a\ud800b")) == "a\ufffdb"


def test_the_table_is_the_published_vocabulary() -> None:
    # tiktoken's file: base64 of the bytes, a space and the rank on each line; the digest is openai/tiktoken's.
    lines = b"".join(base64.b64encode(token_bytes(i)) + b" %d\n" % i for i in range(FIRST_SPECIAL_ID))
    digest = hashlib.sha256(lines).hexdigest()
    assert digest == "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
    assert len(token_table()) == VOCABULARY_SIZE


@pytest.mark.parametrize("token", [-1, VOCABULARY_SIZE])
def test_ids_that_no_model_makes_are_refused(token: int) -> None:
    with pytest.raises(IndexError):
        token_bytes(token)


@pytest.mark.parametrize("unit", ["a", "^", " ", "\n", "\t ", "天", "😀!", "/\n", "กิ", "\x1c!", "e\u0301"])
def test_long_text_without_a_boundary_is_encoded(unit: str) -> None:
    # The library alone takes minutes for some of these, and panics on longer ones.
    text = unit * (200_000 // len(unit))
    assert decode(encode(text)) == text
