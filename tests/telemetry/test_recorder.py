"""A request's record, by a clock that the test turns."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from serving.errors import EngineDiedError, InvalidValueError
from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.telemetry.metrics import Metrics
from serving.telemetry.record import RequestRecord
from serving.telemetry.recorder import Recording, RequestRecorder

USAGE = Usage(prompt_tokens=100, completion_tokens=11, channels=TokenCounts(analysis=4, final=5), cached_tokens=60)


class Process:
    def __init__(self) -> None:
        self.now = 50.0
        self.registry = CollectorRegistry()
        self.records: list[RequestRecord] = []
        metrics = Metrics(self.registry, ["demo"])
        self.recording = Recording(metrics, lambda: 1_760_000_000.0, lambda: self.now, [self.records.append])

    def request(self) -> RequestRecorder:
        return RequestRecorder(self.recording, request_id="req_1", api="chat", method="POST", path="/v1/x")

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def process() -> Process:
    return Process()


def play(process: Process, recorder: RequestRecorder, *steps: tuple[float, ChatEvent]) -> None:
    encode = recorder.watching(lambda event: b"frame")
    for after, event in steps:
        process.now = 50.0 + after
        assert encode(event) == b"frame"


def test_a_stream_is_timed_from_the_requests_arrival(process: Process) -> None:
    recorder = process.request()
    recorder.team = "search"
    recorder.identify(model="demo", effort="low", stream=True)
    play(
        process,
        recorder,
        (1.0, GenerationStarted()),
        (1.5, TextDelta(0, "analysis", "a")),
        (2.0, TextDelta(0, "final", "b")),
        (2.5, TextDelta(0, "final", "c")),
        (2.5, ToolCallDelta(0, 0, "call_1", "f")),
        (2.6, ChoiceFinished(0, "stop", reasoning_truncated=True)),
        (2.6, GenerationFinished(USAGE)),
    )
    process.now = 53.0
    recorder.close(status=200, whole=True)
    [record] = process.records
    assert (record.first_token_after_s, record.first_final_after_s, record.last_token_after_s) == (1.0, 2.0, 2.5)
    assert (record.duration_s, record.chunks, record.outcome) == (3.0, 3, "ok")
    assert (record.tool_calls, record.reasoning_truncated, record.usage) == (1, True, USAGE)
    assert process.value("serving_inter_token_latency_seconds_sum", model="demo") == 1.5
    assert process.value("serving_time_per_output_token_seconds_sum", model="demo") == pytest.approx(0.15)
    assert process.value("serving_time_to_first_final_token_seconds_sum", model="demo", team="search") == 2.0
    channels = {
        c: process.value("serving_tokens_total", model="demo", team="search", channel=c)
        for c in ("prompt", "cached", "analysis", "final", "structure", "tool")
    }
    assert channels == {"prompt": 40, "cached": 60, "analysis": 4, "final": 5, "structure": 2, "tool": None}


def test_the_wait_for_admission_is_seen_while_it_lasts_and_after(process: Process) -> None:
    recorder = process.request()
    recorder.identify(model="demo")
    with recorder.queueing():
        assert process.value("serving_requests_queued", model="demo", team="none") == 1
        process.now += 2.0
    assert process.value("serving_requests_queued", model="demo", team="none") == 0
    recorder.close(status=200, whole=True)
    assert process.records[0].queue_s == 2.0


def test_a_request_admitted_at_once_waited_no_time(process: Process) -> None:
    recorder = process.request()
    recorder.identify(model="demo")
    recorder.not_queued()
    assert process.value("serving_requests_queued", model="demo", team="none") == 0
    recorder.close(status=200, whole=True)
    assert process.records[0].queue_s == 0.0


def test_a_wait_that_ends_in_an_error_leaves_nothing_queued(process: Process) -> None:
    recorder = process.request()
    recorder.identify(model="demo")
    with pytest.raises(RuntimeError), recorder.queueing():
        raise RuntimeError
    assert process.value("serving_requests_queued", model="demo", team="none") == 0


def test_a_team_learnt_later_does_not_leave_the_request_in_flight(process: Process) -> None:
    recorder = process.request()
    recorder.identify(model="demo")
    recorder.team = "search"
    recorder.identify(model="demo", effort="low")
    recorder.close(status=200, whole=True)
    assert process.value("serving_requests_in_flight", model="demo", team="none") == 0
    assert process.value("serving_requests_in_flight", model="demo", team="search") is None


def test_the_first_error_says_what_became_of_the_request(process: Process) -> None:
    recorder = process.request()
    recorder.failed(EngineDiedError("gone"))
    recorder.failed(InvalidValueError("too"))
    recorder.close(status=200, whole=True)
    assert (process.records[0].outcome, process.records[0].error_code) == ("engine_died", "engine_died")


@pytest.mark.parametrize(
    ("status", "whole", "outcome"),
    [(200, True, "ok"), (200, False, "client_left"), (None, False, "client_left"), (429, True, "rate_limited")],
)
def test_without_an_error_the_reply_tells(process: Process, status: int | None, whole: bool, outcome: str) -> None:
    recorder = process.request()
    recorder.close(status=status, whole=whole)
    assert process.records[0].outcome == outcome
