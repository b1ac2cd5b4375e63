from __future__ import annotations

import asyncio

import httpx
from starlette.types import Receive, Scope, Send

from serving.cluster.drain import DrainGate


class Held:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            self.begun.set()
            await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def test_running_requests_finish_and_new_ones_are_refused() -> None:
    # Given a request under way
    app = Held()
    gate = DrainGate(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://test") as client:
        running = asyncio.create_task(client.post("/"))
        await asyncio.wait_for(app.begun.wait(), 5)
        # When the gate closes
        gate.draining = True
        refused = await client.post("/")
        # Then a new one is told to come back, health checks still pass, and the running one ends as it would have
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.get("/health")).status_code == 200
        assert gate.ongoing == 1
        app.let.set()
        assert (await running).text == "done"
    assert gate.ongoing == 0
