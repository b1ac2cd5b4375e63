"""What making an answer takes on every route: its check passed first, and within the time that the server allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from serving.errors import AnswerTimeoutError
from serving.generation.constraint_check import Check
from serving.generation.types import ChatEvent


@asynccontextmanager
async def within(longest_s: float) -> AsyncIterator[None]:
    """Around the making of an answer; raises AnswerTimeoutError after `longest_s` seconds."""
    try:
        async with asyncio.timeout(longest_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise answer_timeout(longest_s) from error


def answer_timeout(longest_s: float) -> AnswerTimeoutError:
    """The error for answers that take longer than `longest_s` seconds."""
    return AnswerTimeoutError(
        f"The answer took longer than {longest_s:g} s, the most this server allows. Ask for fewer tokens."
    )


def checked(check: Check | None, events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[ChatEvent]:
    """`events`, once `check` has passed. Closing this closes them."""
    return events if check is None else _after(check, events)


async def _after(check: Check, events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[ChatEvent]:
    async with aclosing(events):
        await check()
        async for event in events:
            yield event
