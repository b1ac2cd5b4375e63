from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batches.lines import InputLine, LineInvalid, LineReader, lines_of

CHAT = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}


async def chunks(parts: list[bytes]) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


async def read(parts: list[bytes], longest: int = 100) -> list[InputLine]:
    return [line async for line in lines_of(chunks(parts), longest)]


@given(text=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
async def test_lines_are_the_same_however_the_file_is_cut(text: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[begin:end] for begin, end in pairwise(places)]

    found = await read(parts)

    expected = [(n, line) for n, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    assert [(line.number, line.text) for line in found] == expected


async def test_a_line_that_is_too_long_is_not_held_and_those_after_it_are_read() -> None:
    found = await read([b"a\n", *[b"x" * 50] * 10, b"\nb\n", b"y" * 200])
    assert [(line.number, line.text) for line in found] == [(1, b"a"), (2, None), (3, b"b"), (4, None)]


def reader(endpoint: Any = "/v1/chat/completions") -> LineReader:
    return LineReader(endpoint, 1000)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"custom_id": None}, "missing_custom_id", "custom_id"),
        ({"custom_id": ""}, "invalid_value", "custom_id"),
        ({"custom_id": 7}, "invalid_value", "custom_id"),
        ({"custom_id": "x" * 513}, "invalid_value", "custom_id"),
        ({"method": "GET"}, "invalid_method", "method"),
        ({"url": "/v1/models"}, "mismatched_endpoint", "url"),
        ({"body": []}, "invalid_value", "body"),
        ({"body": {"stream": True}}, "unsupported_parameter", "body.stream"),
        ({"body": {"background": True}}, "unsupported_parameter", "body.background"),
        ({"more": 1}, "unknown_parameter", "more"),
    ],
)
def test_each_mistake_has_its_code_and_field(change: dict[str, Any], code: str, param: str) -> None:
    text = json.dumps({**CHAT, **change}).encode()
    with pytest.raises(LineInvalid) as told:
        reader().read(InputLine(3, text))
    assert (told.value.error.code, told.value.error.param) == (code, param)
    assert "Line 3" in told.value.error.message


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": NaN}', b"[" * 900])
def test_what_is_no_json_object_is_told(text: bytes) -> None:
    with pytest.raises(LineInvalid) as told:
        reader().read(InputLine(1, text))
    assert told.value.error.code == "invalid_json_line"


def test_the_same_line_may_be_read_again_and_another_with_its_custom_id_may_not() -> None:
    reading = reader()
    text = json.dumps(CHAT).encode()
    assert reading.read(InputLine(1, text)) == reading.read(InputLine(1, text))
    with pytest.raises(LineInvalid, match="custom_id of line 1"):
        reading.read(InputLine(2, text))


def test_responses_are_not_stored_unless_the_line_says_so() -> None:
    url = "/v1/responses"
    plain = reader(url).read(InputLine(1, json.dumps({**CHAT, "url": url}).encode()))
    asked = reader(url).read(InputLine(1, json.dumps({**CHAT, "url": url, "body": {"store": True}}).encode()))
    assert json.loads(plain.body)["store"] is False
    assert json.loads(asked.body)["store"] is True
