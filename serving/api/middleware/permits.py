"""A request's ticket is given up when the request is over, and the reply says who answered and what is left."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering.access import find_served_by, find_ticket
from serving.answering.cached import HEADER, find_cache_outcome
from serving.generation.types import Usage
from serving.telemetry.recorder import find_recorder


class Tickets:
    """To stand outside of error handling: refusals carry the headers too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start" and (ticket := find_ticket(state)):
                headers = MutableHeaders(scope=message)
                for name, value in ticket.headers():
                    headers[name] = value
                if message["status"] < 400 and (served_by := find_served_by(state)):
                    headers["x-served-by"] = served_by
                if message["status"] < 400 and (outcome := find_cache_outcome(state)):
                    headers[HEADER] = outcome
            await send(message)

        try:
            await self._app(scope, receive, send_with_limits)
        finally:
            if ticket := find_ticket(state):
                recorder = find_recorder(scope)
                if recorder is not None and ticket.spent_prompt:
                    recorder.spent(Usage(ticket.spent_prompt, ticket.spent_output, cached_tokens=ticket.spent_cached))
                ticket.over()
