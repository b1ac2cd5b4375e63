"""The made tokenizer.json against the vocabulary itself."""

from __future__ import annotations

import functools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serving.demo.tokenizer import special_tokens, tokenizer_json
from serving.harmony.vocabulary import FIRST_SPECIAL_ID, encode, encode_harmony, token_bytes


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json().decode())


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    tokenizer()


words = st.sampled_from(
    ["I'll", "WE'VE", "  ", "\n\n", "\r\n", "1234567", "déjà", "日本語", "👩‍👩‍👧", "ß", "_x", "://", "ǅ", "\u0301"]
)
pieces = st.integers(0, FIRST_SPECIAL_ID - 1).map(lambda token: token_bytes(token).decode("utf-8", "ignore"))
# Special tokens in text are read as structure by tokenizer.json and as text by `encode`, so they stay out here.
texts = (
    st.lists(st.one_of(st.text(max_size=20), words, pieces), max_size=12).map("".join).filter(lambda t: "<|" not in t)
)


@settings(max_examples=500)
@given(texts)
@example("The quick brown fox's 12345 jumps!\n\n  over\tit ")
@example("ОченьДлинноеСлово zażółć gęślą jaźń")
def test_agrees_with_the_vocabulary(text: str) -> None:
    assert tokenizer().encode(text, add_special_tokens=False).ids == encode(text)


@settings(max_examples=100)
@given(texts)
def test_decodes_what_it_encodes(text: str) -> None:
    assert tokenizer().decode(encode(text), skip_special_tokens=False) == text


def test_special_tokens_have_their_ids() -> None:
    text = "<|start|>assistant<|channel|>final<|message|>Hi<|return|>"
    assert tokenizer().encode(text, add_special_tokens=False).ids == encode_harmony(text)
    assert tokenizer().get_vocab_size() == 201088
    assert all(tokenizer().token_to_id(spelled) == token for token, spelled in special_tokens())
