"""Engine behind one request's admission permit: the team's limits, the admission queue and the deadline."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from serving.answering.policy import restricted_info
from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.settings.teams import PRIORITIES
from serving.tenancy.flow_control.permit import AdmissionPermit


class AdmittedEngine:
    """An engine behind one request's permit, which counts the tokens as they pass."""

    def __init__(self, engine: Engine, permit: AdmissionPermit) -> None:
        self._engine = engine
        self._permit = permit

    async def prepare(self) -> EngineInfo:
        """See Engine; no more than the team may have. Raises AnswerTimeoutError when the deadline passes."""
        info = await self._permit.before_deadline(self._engine.prepare())
        return restricted_info(info, self._permit.identity.policy)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Raises as AdmissionPermit.acquire does, and AnswerTimeoutError when the deadline passes."""
        permit = self._permit
        if ahead := permit.rank - _NORMAL:
            request = replace(request, priority=request.priority + ahead)
        await permit.acquire(request)
        spent, counted = permit.spent, False
        try:
            async with aclosing(self._engine.generate(request)) as deltas:
                async for delta in deltas if permit.stops_at is None else permit.in_time(deltas):
                    if counted:
                        spent.output += len(delta.token_ids)
                    else:
                        spent.add(request, len(delta.token_ids), delta.cached_tokens)
                        counted = True
                    yield delta
        finally:
            permit.release()


_NORMAL = PRIORITIES.index("normal")
