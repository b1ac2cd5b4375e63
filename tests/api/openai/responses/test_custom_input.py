"""The input of a custom tool, read out of growing JSON."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.openai.responses.custom_input import CustomInput

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CUTS = st.lists(st.integers(0, 200), max_size=12)


def read(text: str, cuts: list[int], *, plain: bool = False) -> str:
    reader = CustomInput(plain=plain)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[begin:end] for begin, end in itertools.pairwise(places)]
    return "".join(reader.feed(piece) for piece in pieces) + reader.end()


@given(TEXTS, CUTS, st.booleans(), st.sampled_from([None, 2]))
def test_the_input_is_what_the_json_says_however_it_is_cut(
    text: str, cuts: list[int], ascii_only: bool, indent: int | None
) -> None:
    assert read(json.dumps({"input": text}, ensure_ascii=ascii_only, indent=indent), cuts) == text


@given(TEXTS, CUTS)
def test_plain_text_is_the_input_as_it_stands(text: str, cuts: list[int]) -> None:
    assert read(text, cuts, plain=True) == text


@pytest.mark.parametrize("text", ["ls -l", "", '{"patch": "x"}', '"quoted"', '{"inp', "{", '{"input": 3}'])
def test_what_is_not_of_the_form_is_the_input_as_it_stands(text: str) -> None:
    for cut in range(len(text)):
        assert read(text, [cut]) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"input": "so far', "so far"),
        (r'{"input": "a\n', "a\n"),
        ('{"input": "a\\', "a"),
        (r'{"input": "a\u00e', "a"),
        (r'{"input": "\ud83d', ""),
        (r'{"input": "\ud83dx"}', "?x"),
        (r'{"input": "\qx"}', "\\qx"),
        ('{"input": "x", "more": 1}', "x"),
    ],
)
def test_what_breaks_off_or_is_odd_gives_what_can_be_read(text: str, shown: str) -> None:
    for cut in range(len(text)):
        assert read(text, [cut]) == shown
