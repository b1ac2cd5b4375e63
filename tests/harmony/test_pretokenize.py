from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.harmony import pretokenize as stretches
from serving.harmony.vocabulary import encode, encoding

words = st.text(alphabet="abcÄß天気ก \n\t.,;!?'\"{}:=/0123_-😀e\u0301。、", max_size=400)


@pytest.mark.property
@given(words, st.integers(1, 8))
def test_chunks_are_short_and_join_to_the_text(text: str, times: int) -> None:
    chunks = list(stretches.chunks(text * times))
    assert "".join(chunks) == text * times
    assert all(0 < len(chunk) <= 512 for chunk in chunks)


@pytest.mark.property
@given(words.filter(bool))
def test_a_cut_at_a_boundary_leaves_the_tokens_as_they_were(text: str) -> None:
    text *= 1500 // len(text) + 1
    cut = list(stretches.chunks(text))
    # Where 512 characters have no boundary they are cut all the same.
    assume(all(len(chunk) < 512 for chunk in cut[:-1]))
    pieces = [token for chunk in cut for token in encoding().encode(chunk, disallowed_special=())]
    assert pieces == encoding().encode(text, disallowed_special=())


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"value","list":[1,2,3],"text":"some words here"}' * 100,
        "天気はとても良いです。明日も晴れるでしょう、たぶん。" * 100,
        "https://example.com/path?query=value&other=thing#fragment," * 100,
        "A line of prose, with words in it.\n" * 100,
    ],
    ids=["json", "japanese", "urls", "prose"],
)
def test_ordinary_long_texts_keep_the_library_s_tokens(text: str) -> None:
    assert encode(text) == encoding().encode(text, disallowed_special=())


@pytest.mark.parametrize(
    ("text", "plain"),
    [("", True), ("a" * 511, True), ("a" * 512, False), (" " * 511, True), (" \n" * 256, False), ("a b" * 9999, True)],
    ids=["empty", "short", "long", "few_blanks", "many_blanks", "words"],
)
def test_only_text_with_a_long_stretch_is_not_plain(text: str, plain: bool) -> None:
    assert stretches.is_plain(text) is plain
