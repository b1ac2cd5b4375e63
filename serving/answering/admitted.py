"""An engine as one request sees it: behind its team's limits, its place in line and its deadline."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from serving.engine.base import Engine, EngineInfo, EngineRequest, TokenDelta
from serving.settings.teams import PRIORITIES
from serving.tenancy.flow_control.permit import Ticket


class AdmittedEngine:
    """See Engine; whoever made `engine` starts and closes it. Tokens are counted as they pass."""

    def __init__(self, engine: Engine, ticket: Ticket) -> None:
        self._engine = engine
        self._ticket = ticket

    async def start(self) -> None:
        """See Engine; the engine is another's to start."""

    async def close(self) -> None:
        """See Engine; the engine is another's to close."""

    async def info(self) -> EngineInfo:
        """See Engine; no more than the team may have. Raises AnswerTimeoutError when the deadline passes."""
        info, policy = await self._ticket.before_deadline(self._engine.info()), self._ticket.identity.policy
        if policy.max_context is not None and policy.max_context < info.max_model_len:
            info = replace(info, max_model_len=policy.max_context)
        if policy.max_output is not None:
            info = replace(info, max_output_tokens=policy.max_output)
        return info

    async def check_health(self) -> None:
        """See Engine."""
        await self._engine.check_health()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        """See Engine. Raises as Ticket.begin does, and AnswerTimeoutError when the deadline passes."""
        ticket = self._ticket
        if ahead := ticket.rank - _NORMAL:
            request = replace(request, priority=request.priority + ahead)
        await ticket.begin(request)
        try:
            deltas = self._engine.generate(request)
            try:
                async for delta in deltas if ticket.stops_at is None else ticket.in_time(deltas):
                    ticket.count(request, len(delta.token_ids), delta.cached_tokens)
                    yield delta
            finally:
                if isinstance(deltas, AsyncGenerator):
                    await deltas.aclose()
        finally:
            ticket.end()


_NORMAL = PRIORITIES.index("normal")
