"""The time that the server allows for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.errors import AnswerTimeoutError


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
