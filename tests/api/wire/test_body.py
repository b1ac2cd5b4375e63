from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.wire.body import parse_object
from serving.errors import MalformedBodyError


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"  \n", id="blank"),
        pytest.param(b'{"a": 1', id="cut off"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b"[1]", id="array"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"a": "\x00"}', id="raw NUL"),
        pytest.param(b"[" * 100_000, id="deep array"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="deep object"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", id="endless number"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_object(body)
    assert caught.value.status == 400
    assert caught.value.code == "invalid_json"


def test_the_last_of_duplicate_keys_wins() -> None:
    assert parse_object(b'{"a": 1, "a": 2}') == {"a": 2}


def test_the_message_says_where_the_mistake_is() -> None:
    with pytest.raises(MalformedBodyError, match="line 2 column"):
        parse_object(b'{"a": 1,\n"b": tru}')


@pytest.mark.property
@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(st.integers()), max_size=5))
def test_objects_come_back_as_they_were(value: dict[str, object]) -> None:
    assert parse_object(json.dumps(value).encode()) == value
