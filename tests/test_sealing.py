"""Sealed texts come back to their team and model alone, and say why they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import SealError, StoreUnavailableError
from serving.sealing import Seal, Seals, random_secret, secret_of

OURS, OTHER = secret_of("one"), secret_of("another")
SEAL = Seal([OURS], "research", "gpt-oss-20b")


@given(st.text())
def test_what_is_sealed_comes_back(text: str) -> None:
    assert SEAL.open(SEAL.close(text)) == text


def test_a_sealed_text_shows_nothing_and_is_another_each_time() -> None:
    text = "The password is swordfish. " * 100
    first, second = SEAL.close(text), SEAL.close(text)
    assert first != second
    assert "swordfish" not in first
    assert first.replace("_", "").replace("-", "").isalnum()
    assert len(first) < 1.5 * len(text)


@pytest.mark.parametrize(
    ("seal", "reason"),
    [
        (Seal([OTHER], "research", "gpt-oss-20b"), "a key that this server does not have"),
        (Seal([OURS], "sales", "gpt-oss-20b"), "for another team"),
        (Seal([OURS], "research", "gpt-oss-120b"), "by another model"),
        (Seal([OURS], "research", "gpt-oss-20b", "compaction"), "for another use"),
    ],
)
def test_another_key_team_model_or_use_is_named(seal: Seal, reason: str) -> None:
    with pytest.raises(SealError, match=reason):
        seal.open(SEAL.close("thought"))


@given(st.integers(min_value=0), st.sampled_from("ab_-Z9="))
def test_a_changed_character_is_noticed(place: int, character: str) -> None:
    sealed = SEAL.close("thought")
    place %= len(sealed)
    changed = sealed[:place] + character + sealed[place + 1 :]
    if changed == sealed:
        return
    try:
        opened = SEAL.open(changed)
    except SealError:
        return
    # The last character has bits that base64 does not use.
    assert (place, opened) == (len(sealed) - 1, "thought")


# A seal is another each time: its test needs a name, or processes of one run do not agree which tests there are.
@pytest.mark.parametrize(
    "text",
    ["", "gos1_", "gos1_!!", "gos1_AAAA", "gAAAAABn", "gos1_é", pytest.param(SEAL.close("thought")[:60], id="cut")],
)
def test_what_no_seal_made_is_refused(text: str) -> None:
    with pytest.raises(SealError):
        SEAL.open(text)


def test_an_older_key_still_opens_and_the_first_seals() -> None:
    rolled = Seal([OTHER, OURS], "research", "gpt-oss-20b")
    assert rolled.open(SEAL.close("before")) == "before"
    with pytest.raises(SealError):
        SEAL.open(rolled.close("after"))


def test_a_seal_does_not_show_its_secrets() -> None:
    assert repr(OURS) not in repr(SEAL)


async def test_a_secret_that_could_not_be_had_is_asked_for_again() -> None:
    asked = 0

    async def secrets() -> list[bytes]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailableError("away")
        return [await give()]

    give = random_secret()
    seals = Seals(secrets)
    with pytest.raises(StoreUnavailableError):
        await seals.of("research", "demo")
    first, second = await seals.of("research", "demo"), await seals.of("research", "demo")
    assert second.open(first.close("thought")) == "thought"
    assert asked == 2
