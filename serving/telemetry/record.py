"""Record of a finished request: figures and names, never content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from serving.generation.types import Usage
from serving.telemetry.outcomes import Outcome
from serving.telemetry.timeline import Timeline

CacheOutcome = Literal["hit", "miss", "shared"]
"""Of a request that the answer cache was asked for: kept, made for it, or made for another and shared."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One finished request.

    `started_at` is in seconds since the epoch. All `_s` are seconds; those "after arrival" count from the request's
    first byte and are None where it did not get that far. Of n choices the first to do something counts.

    `model`, `team` and `effort` are None where the request did not get far enough to have them; `model` is the name
    in the settings, not the alias that the client sent, `adapter` that of the LoRA adapter at work on it. `key_id` is
    the public part of the key that was used, `address` the client's, as far as trusted proxies say. `served_by` is the
    selector of what answered; `sent_outside` names the backends outside the house that the conversation was sent to,
    whether they answered or not.
    """

    request_id: str
    api: str
    method: str
    path: str
    started_at: float
    duration_s: float
    outcome: Outcome
    status: int | None
    error_code: str | None = None
    key_id: str | None = None
    address: str | None = None
    model: str | None = None
    adapter: str | None = None
    team: str | None = None
    effort: str | None = None
    stream: bool = False
    queue_s: float | None = None
    first_token_after_s: float | None = None
    first_final_after_s: float | None = None
    last_token_after_s: float | None = None
    chunks: int = 0
    usage: Usage | None = None
    tool_calls: int = 0
    recoveries: dict[str, int] = field(default_factory=dict)
    failovers: int = 0
    reasoning_truncated: bool = False
    served_by: str | None = None
    sent_outside: tuple[str, ...] = ()
    cache: CacheOutcome | None = None
    timeline: Timeline | None = None


OnRecord = Callable[[RequestRecord], None]
"""Told of each request when it is over."""
