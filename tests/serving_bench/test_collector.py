from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_bench.collector import Collector, tokens_by_channel
from serving_bench.outcome import CONTENT, INTERRUPTED, REASONING, Outcome, Usage
from serving_bench.timeline import Timeline


def reply(started: float, times: list[float], *, tokens: int | None, ended: float | None = None) -> Outcome:
    """A stream whose first chunk is reasoning and whose others are content, a character each."""
    outcome = Outcome(0, started)
    for number, time in enumerate(times):
        outcome.text(REASONING if number == 0 else CONTENT, 1, time)
    outcome.usage = Usage(prompt=10, completion=tokens, reasoning=1) if tokens is not None else None
    outcome.ended = times[-1] if ended is None else ended
    outcome.finish = "stop"
    return outcome


def test_latencies_are_taken_from_the_request_being_due() -> None:
    collector = Collector(100.0)
    collector.add(reply(100.0, [100.5, 100.7, 101.0], tokens=6, ended=101.1))
    latency = collector.latency_report()
    assert latency.ttft.p50 == pytest.approx(0.5)
    assert latency.ttft_final.p50 == pytest.approx(0.7)
    assert latency.itl.count == 2
    assert latency.itl.p50 == pytest.approx(0.25)
    assert latency.tpot.p50 == pytest.approx(0.5 / 5)
    assert latency.e2e.p50 == pytest.approx(1.1)


def test_quantiles_are_over_all_gaps_and_not_over_averages() -> None:
    collector = Collector(0.0)
    collector.add(reply(0.0, [0.0 + 0.01 * number for number in range(91)], tokens=91))
    collector.add(reply(0.0, [0.0 + 1.0 * number for number in range(11)], tokens=11))
    itl = collector.latency_report().itl
    assert itl.count == 100
    assert itl.p50 == pytest.approx(0.01)
    assert itl.p90 == pytest.approx(0.109, rel=0.01), "90 short gaps, 10 long ones"
    assert itl.p99 == pytest.approx(1.0)


def test_errors_and_interruptions_are_kept_apart_and_have_no_latency() -> None:
    collector = Collector(0.0)
    for kind, detail in (("status 503", "full"), ("status 503", "still full"), ("timeout", ""), (INTERRUPTED, "")):
        outcome = Outcome(0, 0.0, ended=1.0)
        outcome.fail(kind, detail)
        collector.add(outcome)
    collector.add(reply(0.0, [0.5], tokens=1))
    requests = collector.requests_report()
    assert (requests.sent, requests.completed, requests.failed, requests.interrupted) == (5, 1, 3, 1)
    assert [(each.kind, each.count, each.example) for each in collector.failures_report()] == [
        ("status 503", 2, "full"),
        ("timeout", 1, ""),
    ]
    assert collector.latency_report().e2e.count == 1


def test_tokens_come_from_usage_and_chunks_are_counted_apart() -> None:
    collector = Collector(0.0)
    collector.add(reply(0.0, [0.1, 0.2], tokens=8))
    collector.add(reply(0.0, [0.1, 0.2], tokens=12))
    tokens, chunks = collector.tokens_report(), collector.chunks_report(2.0)
    assert (tokens.prompt, tokens.completion, tokens.reasoning, tokens.cached) == (20, 20, 2, None)
    assert (chunks.count, chunks.per_token, chunks.per_s) == (4, 0.2, 2.0)
    assert tokens.by_channel == {"content": 18, "reasoning": 2, "commentary": 0, "tool": 0}


def test_a_server_that_tells_no_usage_has_no_tokens_rather_than_none_at_all() -> None:
    collector = Collector(0.0)
    collector.add(reply(0.0, [0.1, 0.2], tokens=None))
    tokens = collector.tokens_report()
    assert (tokens.prompt, tokens.completion, tokens.by_channel, tokens.replies_without_usage) == (None, None, None, 1)
    assert collector.tokens is None
    assert collector.chunks == 2


def test_tokens_of_broken_streams_are_estimated_from_their_chunks() -> None:
    collector = Collector(0.0)
    collector.add(reply(0.0, [0.1, 0.2], tokens=8))
    broken = reply(0.0, [0.1, 0.2, 0.3], tokens=None)
    broken.fail("broken stream")
    collector.add(broken)
    tokens = collector.tokens_report()
    assert (tokens.completion, tokens.estimated, tokens.replies_without_usage) == (8, 12, 0)
    assert collector.tokens == 20


def test_a_round_goes_into_the_whole_too() -> None:
    whole = Collector(None)
    for start in (0.0, 50.0):
        Collector(start, whole).add(reply(start, [start + 0.1], tokens=1))
    assert (whole.completed, whole.ttft.count) == (2, 2)


@given(
    characters=st.lists(st.integers(0, 1000), min_size=4, max_size=4),
    completion=st.integers(0, 5000),
    reasoning=st.none() | st.integers(0, 5000),
)
def test_channels_share_all_tokens_and_no_more(characters: list[int], completion: int, reasoning: int | None) -> None:
    shared = tokens_by_channel(characters, Usage(0, completion, reasoning))
    assert sum(shared) == pytest.approx(max(completion, reasoning or 0))
    if reasoning is not None:
        assert shared[REASONING] == reasoning
    assert all(tokens == 0 for tokens, share in zip(shared[2:], characters[2:], strict=True) if not share)


class TestTimeline:
    def test_what_happened_is_where_it_happened(self) -> None:
        collector = Collector(10.0)
        collector.add(reply(10.0, [10.25, 11.25], tokens=10, ended=11.5))
        collector.add(reply(11.0, [11.75], tokens=4, ended=11.75))
        failed = Outcome(0, 10.5, ended=11.65)
        failed.fail("timeout")
        collector.add(failed)
        assert collector.timeline is not None
        timeline = collector.timeline.report(2.0)
        per_second = round(1 / timeline.step_s)
        assert sum(timeline.tokens_per_s[:per_second]) * timeline.step_s == pytest.approx(5)
        assert sum(timeline.tokens_per_s) * timeline.step_s == pytest.approx(14)
        assert sum(timeline.requests_per_s) * timeline.step_s == pytest.approx(2)
        assert [number for number, count in enumerate(timeline.errors) if count] == [int(1.65 / timeline.step_s)]
        assert max(timeline.in_flight) == 3
        assert timeline.in_flight[-1] == 0
        assert [ttft for ttft in timeline.ttft_p50 if ttft is not None] == pytest.approx([0.25, 0.75])

    def test_a_long_run_has_no_more_than_120_steps(self) -> None:
        collector = Collector(0.0)
        collector.add(reply(0.0, [float(at) for at in range(1, 5000)], tokens=4999))
        assert collector.timeline is not None
        timeline = collector.timeline.report(5000.0)
        assert len(timeline.tokens_per_s) <= 120
        assert sum(timeline.tokens_per_s) * timeline.step_s == pytest.approx(4999, rel=0.01)

    def test_all_lists_are_equally_long_even_without_requests(self) -> None:
        timeline = Timeline(0.0).report(0.0)
        lists = (timeline.tokens_per_s, timeline.requests_per_s, timeline.errors, timeline.in_flight, timeline.ttft_p50)
        assert {len(each) for each in lists} == {1}


def test_outcomes_share_no_lists() -> None:
    one, other = Outcome(0, 0.0), Outcome(1, 0.0)
    one.text(CONTENT, 5, 1.0)
    assert (other.chunks, other.characters, other.chunk_times) == ([0] * 4, [0] * 4, array("d"))
