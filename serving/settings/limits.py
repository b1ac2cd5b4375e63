"""Limit kinds: one table, which stores, leases, denials, metrics and the teams file follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Unit = Literal["requests", "tokens", "slots"]
"""Units: requests, tokens of prompt and answer together, and concurrent requests."""

Span = Literal["minute", "day", "month", "moment"]
"""Spans: a sliding minute, a day and a month of UTC, and this moment."""


@dataclass(frozen=True, slots=True)
class LimitKind:
    """Limit kind: `name` is its field in the teams file, `reason` its label in serving_rejections_total."""

    name: str
    unit: Unit
    span: Span
    reason: str


LIMIT_KINDS: tuple[LimitKind, ...] = (
    LimitKind("requests_per_minute", "requests", "minute", "requests_per_minute"),
    LimitKind("tokens_per_minute", "tokens", "minute", "tokens_per_minute"),
    LimitKind("concurrent_requests", "slots", "moment", "concurrency"),
    LimitKind("tokens_per_day", "tokens", "day", "daily_tokens"),
    LimitKind("tokens_per_month", "tokens", "month", "monthly_tokens"),
)

KIND_OF = {kind.name: kind for kind in LIMIT_KINDS}
"""Limit kinds by name."""

CALENDAR = tuple(
    sorted((kind for kind in LIMIT_KINDS if kind.span in ("day", "month")), key=lambda kind: kind.span != "month")
)
"""Kinds that begin anew with a day or a month, months first: of two used up, the client is told the longer wait."""


def period_of(span: Span, now: float) -> str:
    """Day ("20784", days since the epoch) or month ("2026-11") of `now`, in seconds since the epoch."""
    return str(int(now // 86400)) if span == "day" else datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def period_end(span: Span, now: float) -> float:
    """End of the day or month of `now`, in seconds since the epoch."""
    if span == "day":
        return (now // 86400 + 1) * 86400
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1).timestamp()
