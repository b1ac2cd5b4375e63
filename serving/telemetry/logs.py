"""Logs: one line for each finished request, and the messages of the service itself."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from serving.settings.telemetry import LoggingSettings
from serving.telemetry.outcomes import SERVER_FAULTS
from serving.telemetry.record import RequestRecord

LOGGER = "serving"
"""The logger that all of ours are below."""

_requests = logging.getLogger("serving.requests")


def configure_logging(settings: LoggingSettings, stream: TextIO, **context: str) -> None:
    """Send the service's log records to `stream`, at the start of a process. May be called again.

    `context` (deployment, replica) goes into each JSON line. Other libraries' loggers are left alone.
    """
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(context) if as_json else TextFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(settings.level.upper())
    logger.propagate = False


def log_request(record: RequestRecord) -> None:
    """Log a finished request; as a warning where the fault is the server's."""
    level = logging.WARNING if record.outcome in SERVER_FAULTS else logging.INFO
    if _requests.isEnabledFor(level):
        _requests.log(level, "%s", _Line(record), extra={"request": record})


class JsonFormatter(logging.Formatter):
    """Formatter of one JSON object a line: time (UTC), level, logger and message, or a request's figures."""

    def __init__(self, context: dict[str, str]) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._context,
        }
        request: RequestRecord | None = getattr(record, "request", None)
        if request is not None:
            fields |= request_fields(request)
        else:
            fields["message"] = record.getMessage()
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class TextFormatter(logging.Formatter):
    """Formatter for people: local time, the level where it is not info, and the message."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{_printable(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def request_fields(record: RequestRecord) -> dict[str, Any]:
    """Fields of a request's JSON line: names, counts and times. Fields of stages that it did not reach are left out."""
    usage = record.usage
    fields = {
        "request_id": record.request_id,
        "api": record.api,
        "method": record.method,
        "path": record.path[:200],
        "model": record.model,
        "adapter": record.adapter,
        "team": record.team,
        "effort": record.effort,
        "stream": record.stream,
        "outcome": record.outcome,
        "status": record.status,
        "error_code": record.error_code,
        "started": datetime.fromtimestamp(record.started_at, UTC).isoformat(timespec="milliseconds"),
        "duration_ms": _ms(record.duration_s),
        "queue_ms": _ms(record.queue_s),
        "first_token_ms": _ms(record.first_token_after_s),
        "first_final_ms": _ms(record.first_final_after_s),
        "chunks": record.chunks or None,
        "prompt_tokens": usage and usage.prompt_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "analysis_tokens": usage and usage.reasoning_tokens,
        "final_tokens": usage and usage.channels["final"],
        "tool_calls": record.tool_calls or None,
        "recoveries": record.recoveries or None,
        "failovers": record.failovers or None,
        "reasoning_truncated": record.reasoning_truncated or None,
        "cache": record.cache,
    }
    return {name: value for name, value in fields.items() if value is not None}


class _Line:
    """A request in words, written only if somebody reads them."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record

    def __str__(self) -> str:
        record = self._record
        who = " ".join(
            filter(None, (record.team, record.adapter or record.model, record.effort and f"({record.effort})"))
        )
        words = [f"{record.method} {record.path[:200]}", who, record.outcome, f"{record.duration_s:.2f} s"]
        if record.first_token_after_s is not None:
            words.append(f"first token {record.first_token_after_s:.2f} s")
        if record.usage is not None:
            words.append(f"{record.usage.prompt_tokens}+{record.usage.completion_tokens} tokens")
        if record.cache is not None:
            words.append(f"cache {record.cache}")
        if record.error_code is not None and record.error_code != record.outcome:
            words.append(record.error_code)
        return ", ".join(filter(None, [*words, record.request_id]))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _printable(text: str) -> str:
    """One line without control characters, which a path may hold and a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
