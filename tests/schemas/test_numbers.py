"""Numbers within bounds: exactly those that a reader of JSON finds within them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.schemas.check import schema_grammar
from tests.schemas.sampling import matches

bounds = st.one_of(st.integers(-1200, 1200), st.floats(-50, 50).map(lambda value: round(value, 2)))


@pytest.mark.property
@given(bounds, bounds, st.booleans(), st.lists(bounds, min_size=4, max_size=4))
def test_a_number_matches_where_it_is_within_the_bounds(
    first: float, second: float, exclusive: bool, values: list[float]
) -> None:
    low, high = sorted((first, second))
    keywords = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    if exclusive and high - low < 0.01:
        return
    grammar = schema_grammar(json.dumps({"type": "number", keywords[0]: low, keywords[1]: high}))
    for value in (*values, low, high, low + 1, high - 1, 0):
        value = round(value, 6)
        within = low < value < high if exclusive else low <= value <= high
        text = json.dumps(value)
        if "e" not in text and text != "-0.0" and not (text.startswith("-0") and value == 0):
            assert matches(grammar, text) == within, (text, low, high)


@pytest.mark.parametrize(("bound", "text"), [(2**53 - 1, "9007199254740991"), (2**63 - 1, "9223372036854775807")])
def test_bounds_of_many_digits_make_small_grammars(bound: int, text: str) -> None:
    grammar = schema_grammar(json.dumps({"type": "integer", "minimum": -bound, "maximum": bound}))
    assert len(grammar) < 4000
    assert matches(grammar, text)
    assert matches(grammar, f"-{text}")
    assert not matches(grammar, text[:-1] + "9")
