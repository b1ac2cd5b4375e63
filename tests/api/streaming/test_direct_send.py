from __future__ import annotations

import asyncio
import pickle

from starlette.types import Message, Scope

from serving.api.streaming.direct_send import direct_send, offer_direct_send


async def server(message: Message) -> None:
    """What a server gives the outermost layer."""


async def layer(message: Message) -> None:
    """What a route is given."""


async def test_the_outermost_offer_counts() -> None:
    scope: Scope = {"type": "http"}
    assert direct_send(scope, layer) is layer
    offer_direct_send(scope, server)
    offer_direct_send(scope, layer)
    assert direct_send(scope, layer) is server


async def test_an_offer_of_another_process_or_loop_is_not_taken() -> None:
    scope: Scope = {"type": "http"}
    offer_direct_send(scope, server)
    assert direct_send(pickle.loads(pickle.dumps(scope)), layer) is layer

    async def elsewhere() -> bool:
        return direct_send(scope, layer) is layer

    assert await asyncio.to_thread(asyncio.run, elsewhere())
