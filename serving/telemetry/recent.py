"""Latest requests with an error or a recovery, for the status page."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from serving.telemetry.outcomes import Outcome
from serving.telemetry.record import RequestRecord

Kind = Literal["refused", "failed", "recovered"]

_REFUSED: frozenset[Outcome] = frozenset(
    {"rate_limited", "overloaded", "not_ready", "unloaded", "forbidden", "unauthenticated"}
)
_FAILED: frozenset[Outcome] = frozenset({"engine_died", "timeout", "internal_error"})


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is in seconds since the epoch; `detail` a code or the kinds of recoveries."""

    at: float
    kind: Kind
    detail: str
    model: str | None
    team: str | None
    request_id: str


class RecentEvents:
    """Ring of the last `most` events; a sink for finished requests."""

    def __init__(self, most: int = 12) -> None:
        self._events: deque[Event] = deque(maxlen=most)

    def __call__(self, record: RequestRecord) -> None:
        """Keep what is worth it."""
        if record.outcome in _REFUSED:
            self._add(record, "refused", record.error_code or record.outcome)
        elif record.outcome in _FAILED:
            self._add(record, "failed", record.error_code or record.outcome)
        if record.recoveries:
            kinds = (f"{kind} ({count})" if count > 1 else kind for kind, count in record.recoveries.items())
            self._add(record, "recovered", ", ".join(kinds))

    def latest(self) -> list[Event]:
        """Events, newest first."""
        return list(self._events)

    def _add(self, record: RequestRecord, kind: Kind, detail: str) -> None:
        at = record.started_at + record.duration_s
        self._events.appendleft(Event(at, kind, detail, record.model, record.team, record.request_id))
