from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.backends.think_tags import ThinkTags

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "think>", "</", " ", "\n", "a", "<thin", "é"]), max_size=12
)


def read(pieces: list[str]) -> tuple[str, str]:
    tags = ThinkTags()
    found = [pair for piece in pieces for pair in tags.feed(piece)] + tags.finish()
    assert all(text for _, text in found)
    return tuple("".join(text for channel, text in found if channel == wanted) for wanted in ("analysis", "final"))  # type: ignore[return-value]  # two of them


@pytest.mark.parametrize(
    ("text", "analysis", "final"),
    [
        ("<think>a b</think>c", "a b", "c"),
        ("\n<think>\na\n</think>\n\nc <think>d</think>", "a", "c <think>d</think>"),
        ("c", "", "c"),
        ("c <think>a</think>", "", "c <think>a</think>"),
        ("<thinking>c", "", "<thinking>c"),
        ("<think></think>c", "", "c"),
        ("<think>never closed", "never closed", ""),
        ("<thi", "", "<thi"),
        ("<think>a</thi nk></think>c", "a</thi nk>", "c"),
    ],
)
def test_a_tag_before_all_text_opens_the_analysis(text: str, analysis: str, final: str) -> None:
    assert read([text]) == (analysis, final)


@given(PIECES, st.integers(1, 5))
def test_how_it_is_cut_changes_nothing(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    assert read(cut) == read([text])
