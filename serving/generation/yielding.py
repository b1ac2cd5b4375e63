"""An engine's deltas in pieces that one request may take from the others at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from serving.engine.base import TokenDelta

# Tokens read without giving other requests a turn: 0.2 ms, with 20 log probabilities each about 15.
_PORTION = 512


async def portions(deltas: AsyncGenerator[TokenDelta]) -> AsyncGenerator[TokenDelta]:
    """The deltas, long ones in pieces with a turn for others between them. Closing this closes `deltas`."""
    async with aclosing(deltas):
        async for delta in deltas:
            if len(delta.token_ids) <= _PORTION:
                yield delta
                continue
            for begin in range(0, len(delta.token_ids), _PORTION):
                yield _portion(delta, begin, begin + _PORTION)
                await asyncio.sleep(0)


def _portion(delta: TokenDelta, begin: int, end: int) -> TokenDelta:
    """Tokens begin to end of the delta; only the last portion carries the finish reason."""
    return TokenDelta(
        delta.token_ids[begin:end],
        delta.finish_reason if end >= len(delta.token_ids) else None,
        None if delta.logprobs is None else delta.logprobs[begin:end],
        delta.cached_tokens,
    )
