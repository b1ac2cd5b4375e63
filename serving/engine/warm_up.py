"""Prompts that an engine is asked before users ask it: what they begin with is then in its prefix cache."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from serving.engine.base import EngineRequest, PushingEngine, Sampling, TokenDelta
from serving.errors import ApiError
from serving.harmony.conversation import Conversation, Effort, UserMessage
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import STOP_TOKEN_IDS

logger = logging.getLogger(__name__)

_TOKENS = 8


async def warm_up(engine: PushingEngine, prompts: Sequence[str], effort: Effort, today: date) -> None:
    """Ask each of the prompts, as a user's only message, for a few tokens.

    One that fails is logged by its number, and keeps nobody from being served.
    """
    for number, text in enumerate(prompts, start=1):
        conversation = Conversation((UserMessage(text),), effort, today)
        sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, stop_token_ids=tuple(STOP_TOKEN_IDS))
        try:
            # Tokenizing a long one holds the event loop, which nobody needs yet.
            request = EngineRequest(f"warm-up-prompt-{number}", render_prompt(conversation), sampling)
            await engine.run(request, _ignore)
        except ApiError as error:
            logger.warning("warm_up: prompt %d of %d failed (%s)", number, len(prompts), error.code or error.status)


def _ignore(delta: TokenDelta) -> None:
    """Nobody reads it."""
