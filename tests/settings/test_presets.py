from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serving.settings.tree import Settings


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ({"demo": {"model": "demo"}}, "already means the model demo"),
        ({"triage": {"model": "nope"}}, "should be a model of this server: demo"),
        ({"two words": {"model": "demo"}}, "without blanks"),
        ({"triage": {"model": "demo", "effort": "huge"}}, "'low', 'medium' or 'high'"),
        ({"triage": {"model": "demo", "tools": [{"name": "a"}, {"name": "a"}]}}, "is the name of a tool before it"),
        ({"triage": {"model": "demo", "answer": {"json_schema": {"type": 7}}}}, "cannot be kept"),
    ],
)
def test_a_mistake_is_named(variants: Any, words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(variants=variants)
    assert words in str(raised.value)
