from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import sse_decoder as event_stream
from serving.sse_decoder import EventStream

STREAM = (
    b'data: {"a": 1}\n\n: a comment\n\nevent: x\nid: 7\ndata:{"b": 2}\n\ndata: one\ndata: two\n\n\n\ndata: [DONE]\n\n'
)
PAYLOADS = [b'{"a": 1}', b'{"b": 2}', b"one\ntwo", b"[DONE]"]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@given(cuts=st.lists(st.integers(0, len(STREAM) * 2)))
def test_events_are_the_same_wherever_the_network_cuts(ends: bytes, cuts: list[int]) -> None:
    stream, events = STREAM.replace(b"\n", ends), EventStream()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found = [payload for start, end in pairwise(edges) for payload in events.feed(stream[start:end])]
    assert found == PAYLOADS
    assert events.rest == b""


def test_an_unfinished_event_waits() -> None:
    events = EventStream()
    assert events.feed(b"data: a\n\ndata: b\n") == [b"a"]
    assert events.feed(b"\n") == [b"b"]


def test_an_endless_event_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LARGEST_EVENT", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        EventStream().feed(b"data: 0123456789")
