from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from serving.settings.keys import Key, KeyHash, hide_keys, is_mistyped, new_key, new_salt, split

ALPHABET = string.digits + string.ascii_letters


def test_a_new_key_is_its_id_and_secret_again() -> None:
    key = new_key()

    assert split(key.text) == key
    assert key.text.startswith("sk-")
    assert key.text[3:].isalnum()


def test_no_two_keys_share_anything() -> None:
    keys = [new_key() for _ in range(100)]

    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 100


def test_a_hash_matches_its_own_secret_alone() -> None:
    key, other = new_key(), new_key()
    stored = KeyHash.parse(str(key.hashed(new_salt())))

    assert stored.matches(key.secret)
    assert not stored.matches(other.secret)


def test_the_same_key_is_stored_differently_each_time() -> None:
    key = new_key()

    assert key.hashed(new_salt()) != key.hashed(new_salt())


def test_neither_repr_nor_hash_shows_the_secret() -> None:
    key = new_key()

    assert key.secret not in repr(key)
    assert key.secret not in str(key.hashed(new_salt()))


@given(position=st.integers(3, 61), put=st.sampled_from(ALPHABET))
def test_one_wrong_character_is_a_typo(position: int, put: str) -> None:
    text = Key("a" * 10, "b" * 43).text
    typed = text[:position] + put + text[position + 1 :]

    assert is_mistyped(typed) == (typed != text)


@given(st.integers(3, 60))
def test_two_characters_swapped_are_a_typo(position: int) -> None:
    text = Key(ALPHABET[:10], ALPHABET[10:53]).text
    swapped = text[:position] + text[position + 1] + text[position] + text[position + 2 :]

    assert is_mistyped(swapped) == (swapped != text)


@given(st.text())
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    key = split(text)

    assert key is None or (key.id in text and key.secret in text)


def test_keys_are_hidden_in_text() -> None:
    key = new_key().text

    assert hide_keys(f"got '{key}' instead") == "got 'sk-...' instead"
