"""When the parts of one request began and ended: kept only where traces are on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta


@dataclass(slots=True)
class EngineLeg:
    """One call of an engine. Moments are monotonic seconds; `parsing_s` is the time that its tokens took elsewhere."""

    began: float
    first_delta: float | None = None
    ended: float = 0.0
    parsing_s: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class Timeline:
    """Moments are monotonic seconds. `carrier` has the caller's traceparent and tracestate, where it sent them."""

    arrived: float
    carrier: Mapping[str, str]
    identified: float | None = None
    queued: list[tuple[float, float]] = field(default_factory=list)
    legs: list[EngineLeg] = field(default_factory=list)


class TimedEngine:
    """See Engine; writes each call into a timeline. Whoever made `engine` starts and closes it."""

    def __init__(self, engine: Engine, timeline: Timeline, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._timeline = timeline
        self._monotonic = monotonic

    async def start(self) -> None:
        """See Engine; the engine is another's to start."""

    async def close(self) -> None:
        """See Engine; the engine is another's to close."""

    async def info(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.info()

    async def check_health(self) -> None:
        """See Engine."""
        await self._engine.check_health()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        """See Engine."""
        monotonic = self._monotonic
        leg = EngineLeg(monotonic())
        self._timeline.legs.append(leg)
        deltas = self._engine.generate(request)
        try:
            async for delta in deltas:
                given = monotonic()
                if leg.first_delta is None:
                    leg.first_delta = given
                leg.tokens += len(delta.token_ids)
                yield delta
                leg.parsing_s += monotonic() - given
        finally:
            leg.ended = monotonic()
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()
