from __future__ import annotations

from openai._streaming import SSEDecoder

from serving.api.streaming.sse import DONE, compact, frame, halves


def test_a_frame_has_its_data_and_its_type() -> None:
    assert frame("{}") == "data: {}\n\n"
    assert frame("{}", "ping") == "event: ping\ndata: {}\n\n"
    assert DONE == b"data: [DONE]\n\n"


def test_halves_and_their_middle_are_the_frame() -> None:
    head, tail = halves('{"text":', "}", "delta")
    assert head + '"Hi"' + tail == frame('{"text":"Hi"}', "delta")


def test_line_ends_within_data_are_escaped() -> None:
    sent = frame(compact({"text": "a\n\u2028\x85b"}), "delta").encode("ascii")
    (event,) = SSEDecoder().iter_bytes(iter([sent]))
    assert event.json() == {"text": "a\n\u2028\x85b"}
