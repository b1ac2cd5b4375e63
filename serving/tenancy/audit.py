"""Who asked what, how much it was, and how it ended: a JSON object a line, never with content."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from serving.settings.accounting import AuditSettings
from serving.telemetry.record import RequestRecord

logger = logging.getLogger(__name__)

_FLUSH_S = 1.0
_MOST_PENDING = 100_000
_REMIND_S = 60.0


def audit_line(record: RequestRecord) -> str:
    """The record as JSON, without a line's end."""
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
    """`record` is a sink for telemetry's records; lines are written once a second, by a thread.

    Each replica has a file of its own, `FILE.HOST-PID.jsonl`: lines of processes that share one could mix, and one
    would put it aside under the others. At `max_bytes` it becomes `.1`, what was that `.2`, up to `keep`. Files are
    readable to their owner alone. Where the disk does not take them, lines are kept up to a bound and then counted as
    lost; `clock` is monotonic.
    """

    def __init__(self, settings: AuditSettings, name: str, clock: Callable[[], float]) -> None:
        assert settings.file is not None
        self.path = Path(f"{settings.file}.{name}.jsonl")
        self._settings = settings
        self._clock = clock
        self._pending: list[str] = []
        self._lock = asyncio.Lock()
        self._reminded = float("-inf")
        self.lost = 0

    def record(self, record: RequestRecord) -> None:
        """Note a request; see OnRecord."""
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
        """Write what is pending."""
        async with self._lock:
            pending, self._pending = self._pending, []
            if not pending:
                return
            try:
                await asyncio.to_thread(self._write, "".join(f"{line}\n" for line in pending))
            except OSError as error:
                self._pending = pending + self._pending
                if self._clock() - self._reminded >= _REMIND_S:
                    self._reminded = self._clock()
                    logger.error("the audit log %s cannot be written; %d lines lost: %s", self.path, self.lost, error)

    async def close(self) -> None:
        """Write the last."""
        await self.flush()

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size and size + len(text) > self._settings.max_bytes:
            self._put_aside()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(text)

    def _put_aside(self) -> None:
        for number in range(self._settings.keep, 1, -1):
            older = self._aside(number - 1)
            if older.exists():
                older.replace(self._aside(number))
        self.path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
