"""Timeline of one request: beginnings and ends of its parts, kept only where traces are on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta


@dataclass(slots=True)
class EngineSegment:
    """Times of one engine request, in monotonic seconds; `parsing_s` is the time of its tokens outside the engine."""

    began: float
    first_delta: float | None = None
    ended: float = 0.0
    parsing_s: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class Timeline:
    """Timeline of one request, in monotonic seconds. `carrier` has the caller's traceparent and tracestate."""

    arrived: float
    carrier: Mapping[str, str]
    identified: float | None = None
    queued: list[tuple[float, float]] = field(default_factory=list)
    segments: list[EngineSegment] = field(default_factory=list)


class TimedEngine:
    """An engine whose calls are written into a request's timeline."""

    def __init__(self, engine: Engine, timeline: Timeline, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._timeline = timeline
        self._monotonic = monotonic

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.prepare()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine."""
        monotonic = self._monotonic
        segment = EngineSegment(monotonic())
        self._timeline.segments.append(segment)
        async with aclosing(self._engine.generate(request)) as deltas:
            try:
                async for delta in deltas:
                    given = monotonic()
                    if segment.first_delta is None:
                        segment.first_delta = given
                    segment.tokens += len(delta.token_ids)
                    yield delta
                    segment.parsing_s += monotonic() - given
            finally:
                segment.ended = monotonic()
