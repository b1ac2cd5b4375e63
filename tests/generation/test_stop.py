from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.generation.stop import StopMatcher


def reference(text: str, stops: list[str]) -> tuple[str, str | None]:
    """One character after another; of what is complete then, the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def play(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops)
    delivered = []
    for piece in pieces:
        delivered.append(matcher.push(piece))
        assert matcher.matched == (matcher.found is not None)
        if matcher.matched:
            return delivered, matcher.found
    return [*delivered, matcher.flush()], None


# Two letters, so that stop strings occur, overlap and nearly occur all the time.
PIECES = st.lists(st.text("ab", max_size=5), max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


@pytest.mark.property
@given(PIECES, STOPS)
def test_agrees_with_reference_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    delivered, matched = play(pieces, stops)
    assert ("".join(delivered), matched) == reference("".join(pieces), stops)


@pytest.mark.property
@given(PIECES, STOPS)
def test_holds_back_only_what_may_begin_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    pushed = delivered = ""
    for piece in pieces:
        pushed += piece
        delivered += matcher.push(piece)
        if matcher.matched:
            return
        held = pushed[len(delivered) :]
        longest = max(
            (pushed[-size:] for stop in stops for size in range(1, len(stop)) if pushed.endswith(stop[:size])),
            key=len,
            default="",
        )
        assert held == longest


def test_delivers_what_precedes_a_stop_string_cut_over_pieces() -> None:
    assert play(["Par", "is E", "N", "D more"], ["END"]) == (["Par", "is ", "", ""], "END")


def test_delivers_a_beginning_that_came_to_nothing() -> None:
    assert play(["x EN", "T y", " E"], ["END"]) == (["x ", "ENT y", " ", "E"], None)


def test_earliest_complete_wins_over_earliest_begun() -> None:
    assert play(["abcd"], ["abcd", "bc"]) == (["a"], "bc")


def test_refuses_an_empty_stop_string() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(["a", ""])
