"""Audit log: requests with team, amounts and outcome, a JSON object a line, never with content."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from serving.settings.accounting import AuditSettings
from serving.telemetry.record import RequestRecord

logger = logging.getLogger(__name__)

_FLUSH_S = 1.0
_MOST_PENDING = 100_000
_REMIND_S = 60.0


def audit_line(record: RequestRecord) -> str:
    """Format a record as JSON, without a line's end."""
    usage = record.usage
    return json.dumps(
        {
            "time": datetime.fromtimestamp(record.started_at, UTC).isoformat(timespec="milliseconds"),
            "request_id": record.request_id,
            "team": record.team,
            "key": record.key_id,
            "address": record.address,
            "method": record.method,
            "path": record.path[:200],
            "model": record.model,
            "adapter": record.adapter,
            "effort": record.effort,
            "stream": record.stream,
            "prompt_tokens": usage.prompt_tokens if usage else 0,
            "completion_tokens": usage.completion_tokens if usage else 0,
            "reasoning_tokens": usage.reasoning_tokens if usage else 0,
            "served_by": record.served_by if record.status is not None and record.status < 400 else None,
            "sent_outside": list(record.sent_outside),
            "cache": record.cache,
            "status": record.status,
            "outcome": record.outcome,
            "error": record.error_code,
            "duration_ms": round(record.duration_s * 1000),
        },
        ensure_ascii=True,
    )


class AuditLog:
    """Audit log, an observer of telemetry's records; a thread writes its lines once a second.

    Each replica has its own file, `FILE.HOST-PID.jsonl`: lines of processes that share a file could mix, and one of
    them would rotate it under the others. At `max_bytes` the file becomes `.1`, the former `.1` becomes `.2`, up to
    `keep`. Only its owner may read a file. Where the disk does not take lines, the log keeps them up to a bound, and
    then counts them as lost. `clock` is monotonic.
    """

    def __init__(self, settings: AuditSettings, name: str, clock: Callable[[], float]) -> None:
        assert settings.file is not None
        self.path = Path(f"{settings.file}.{name}.jsonl")
        self._file = _RotatingFile(self.path, settings)
        self._clock = clock
        self._pending: list[str] = []
        self._lock = asyncio.Lock()
        self._reminded = float("-inf")
        self.lost = 0

    def record(self, record: RequestRecord) -> None:
        """Add a request; see OnRecord."""
        if len(self._pending) >= _MOST_PENDING:
            self.lost += 1
            return
        self._pending.append(audit_line(record))

    async def run(self) -> None:
        """Write every second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Write pending lines."""
        async with self._lock:
            pending, self._pending = self._pending, []
            if not pending:
                return
            try:
                await asyncio.to_thread(self._write, "\n".join(pending))
            except OSError as error:
                self._pending = pending + self._pending
                if self._clock() - self._reminded >= _REMIND_S:
                    self._reminded = self._clock()
                    logger.error("the audit log %s cannot be written; %d lines lost: %s", self.path, self.lost, error)

    async def close(self) -> None:
        """Write the last lines."""
        await self.flush()

    def _write(self, lines: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file.emit(logging.makeLogRecord({"msg": lines}))
        finally:
            self._file.close()


class _RotatingFile(RotatingFileHandler):
    """RotatingFileHandler whose files only their owner may read, and whose emit() raises OSError.

    close() closes the file until the next emit(), so that others may move or remove it meanwhile.
    """

    def __init__(self, path: Path, settings: AuditSettings) -> None:
        super().__init__(path, maxBytes=settings.max_bytes, backupCount=settings.keep, encoding="ascii", delay=True)

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """See RotatingFileHandler; never for an empty file, which would push an older one out."""
        return bool(super().shouldRollover(record)) and Path(self.baseFilename).stat().st_size > 0

    def handleError(self, record: logging.LogRecord) -> None:
        """Let emit() raise what the handler has caught."""
        raise

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_open_for_owner)


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
