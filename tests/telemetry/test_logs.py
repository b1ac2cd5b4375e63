"""What is logged, and what never is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.generation.types import Usage
from serving.harmony.channels import TokenCounts
from serving.settings.telemetry import LoggingSettings
from serving.telemetry.logs import LOGGER, configure_logging, log_request
from serving.telemetry.outcomes import Outcome
from serving.telemetry.record import RequestRecord


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def record(outcome: Outcome = "ok", path: str = "/v1/chat/completions") -> RequestRecord:
    return RequestRecord(
        request_id="req_1",
        api="chat",
        method="POST",
        path=path,
        started_at=1_760_000_000.0,
        duration_s=1.5,
        outcome=outcome,
        status=200,
        model="demo",
        team="search",
        effort="high",
        stream=True,
        first_token_after_s=0.25,
        chunks=7,
        usage=Usage(100, 20, TokenCounts(analysis=8, final=9), 60),
    )


def test_a_request_is_one_json_line_with_names_counts_and_times() -> None:
    out = io.StringIO()
    configure_logging(LoggingSettings(), out, deployment="ingress", replica="abc")
    log_request(record())
    line = json.loads(out.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "serving.requests",
        "deployment": "ingress",
        "replica": "abc",
        "request_id": "req_1",
        "api": "chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "demo",
        "team": "search",
        "effort": "high",
        "stream": True,
        "outcome": "ok",
        "status": 200,
        "started": "2025-10-09T08:53:20.000+00:00",
        "duration_ms": 1500.0,
        "first_token_ms": 250.0,
        "chunks": 7,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 20,
        "analysis_tokens": 8,
        "final_tokens": 9,
    }


def test_a_terminal_gets_text() -> None:
    out = Terminal()
    configure_logging(LoggingSettings(), out)
    log_request(record())
    assert out.getvalue()[9:] == (
        "POST /v1/chat/completions, search demo (high), ok, 1.50 s, first token 0.25 s, 100+20 tokens, req_1\n"
    )


def test_the_settings_win_over_the_terminal() -> None:
    out = Terminal()
    configure_logging(LoggingSettings(format="json"), out)
    log_request(record())
    assert json.loads(out.getvalue())["outcome"] == "ok"


def test_our_own_faults_are_warnings_and_pass_a_higher_level() -> None:
    out = io.StringIO()
    configure_logging(LoggingSettings(level="warning"), out)
    log_request(record())
    log_request(record("engine_died"))
    assert [json.loads(line)["outcome"] for line in out.getvalue().splitlines()] == ["engine_died"]


def test_an_exception_keeps_its_traceback_in_the_same_line() -> None:
    out = io.StringIO()
    configure_logging(LoggingSettings(), out)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("serving.api").exception("request %s failed", "req_1")
    [line] = out.getvalue().splitlines()
    assert json.loads(line)["message"] == "request req_1 failed"
    assert "ValueError: why" in json.loads(line)["traceback"]


def test_configuring_again_does_not_double_lines() -> None:
    out = io.StringIO()
    configure_logging(LoggingSettings(), out)
    configure_logging(LoggingSettings(), out)
    log_request(record())
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize("format", ["json", "text"])
@given(path=st.text())
def test_no_path_breaks_out_of_its_line(format: str, path: str) -> None:
    out = io.StringIO()
    configure_logging(LoggingSettings.model_validate({"format": format}), out)
    log_request(record(path=path))
    assert out.getvalue().count("\n") == 1
    assert len(out.getvalue().splitlines()) == 1
    assert format == "json" or out.getvalue()[:-1].isprintable()
