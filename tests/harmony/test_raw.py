from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.harmony.raw import RawDecoder, decode_raw, encode_raw
from serving.harmony.vocabulary import CALL, FIRST_SPECIAL_ID, START, VOCABULARY_SIZE, encode, encode_harmony

texts = st.text(st.characters(exclude_categories=["Cs"]))
tokens = st.lists(st.integers(0, VOCABULARY_SIZE - 1), max_size=20)


@pytest.mark.property
@given(texts)
def test_text_comes_back(text: str) -> None:
    assert decode_raw(encode_raw(text, allow_special=False), skip_special=True) == text


@pytest.mark.property
@given(st.lists(st.sampled_from(["<|start|>", "<|end|>", "<|", "|>", "<|nothing|>", "<|reserved_200100|>", "a", " é"])))
def test_special_tokens_are_meant_only_where_that_is_allowed(parts: list[str]) -> None:
    text = "".join(parts)
    assert encode_raw(text, allow_special=False) == encode(text)
    assert encode_raw(text, allow_special=True) == encode_harmony(text)
    assert decode_raw(encode_raw(text, allow_special=True), skip_special=False) == text


@pytest.mark.property
@given(tokens, st.integers(0, 20), st.booleans())
def test_the_text_does_not_depend_on_the_pieces(token_ids: list[int], cut: int, skip_special: bool) -> None:
    decoder = RawDecoder(skip_special=skip_special)
    pieces = [decoder.feed(token_ids[:cut]), decoder.feed(token_ids[cut:]), decoder.finish()]
    assert "".join(pieces) == decode_raw(token_ids, skip_special=skip_special)


def test_half_a_character_waits_and_is_replaced_where_it_ends() -> None:
    parts = encode("🦄")
    assert len(parts) > 1
    decoder = RawDecoder(skip_special=False)
    assert decoder.feed(parts[:1]) == ""
    assert decoder.feed(parts[1:]) == "🦄"
    assert decoder.feed([*parts[:1], CALL]) == "\ufffd<|call|>"
    assert decode_raw([*parts[:1], START, *parts], skip_special=True) == "\ufffd🦄"


def test_ids_that_no_model_has_are_refused() -> None:
    assert decode_raw([FIRST_SPECIAL_ID], skip_special=True) == ""
    with pytest.raises(IndexError):
        decode_raw([VOCABULARY_SIZE], skip_special=False)
