"""Prompts that an engine is asked before users ask it: what they begin with is then in its prefix cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import date

from serving.effort import Effort
from serving.engine.base import EngineRequest, Sampling, TokenDelta
from serving.errors import ApiError
from serving.harmony.conversation import Conversation, UserMessage
from serving.harmony.tokenization import STOP_TOKEN_IDS, render_prompt

logger = logging.getLogger(__name__)

Run = Callable[[EngineRequest, Callable[[TokenDelta], None]], Awaitable[None]]
"""An engine's run(); see PushingEngine."""

_TOKENS = 8


async def warm_up(run: Run, prompts: Sequence[str], effort: Effort, today: date) -> None:
    """Have an engine run each of the prompts, as a user's only message, for a few tokens.

    One that fails is logged by its number, and keeps nobody from being served.
    """
    for number, text in enumerate(prompts, start=1):
        conversation = Conversation((UserMessage(text),), effort, today)
        sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, stop_token_ids=tuple(STOP_TOKEN_IDS))
        try:
            prompt = await asyncio.to_thread(render_prompt, conversation)  # it may be long
            request = EngineRequest(f"warm-up-prompt-{number}", prompt, sampling)
            await run(request, _ignore)
        except ApiError as error:
            logger.warning("warm_up: prompt %d of %d failed (%s)", number, len(prompts), error.code or error.status)


def _ignore(delta: TokenDelta) -> None:
    """Drop a delta of a warm-up answer."""
