"""From a chat request to an engine request: the prompt's tokens, and how many may follow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from serving.engine.base import Engine, EngineRequest
from serving.errors import ContextLengthExceededError
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import AssistantMessage, Conversation
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import STOP_TOKEN_IDS

# About 1.5 ms of rendering. Up to here a hop to a thread and back costs more than other requests gain from it.
_LONG_CHARACTERS = 10_000
_CHARACTERS_PER_TOOL = 500


async def plan(engine: Engine, request: ChatGeneration, *, stream: bool = True) -> EngineRequest:
    """Render the prompt and settle max_tokens: what was asked for, or what the context has left.

    Raises ContextLengthExceededError where prompt and max_tokens do not fit, InvalidValueError for tools that cannot
    be rendered, EngineNotReadyError.
    """
    info = await engine.info()
    if _is_long(request.conversation):
        # Tokenizing one message holds the GIL; in a thread others get a turn between messages.
        prompt = await asyncio.to_thread(render_prompt, request.conversation)
    else:
        prompt = render_prompt(request.conversation)
    sampling = replace(
        request.sampling,
        max_tokens=_max_tokens(len(prompt), request.max_tokens, info.max_model_len),
        stop_token_ids=tuple(dict.fromkeys(STOP_TOKEN_IDS + request.sampling.stop_token_ids)),
    )
    return EngineRequest(request.request_id, prompt, sampling, stream)


def _max_tokens(prompt_tokens: int, asked: int | None, max_model_len: int) -> int:
    left = max_model_len - prompt_tokens
    length = f"This model's maximum context length is {max_model_len} tokens; your messages have {prompt_tokens}"
    if left < 1:
        raise ContextLengthExceededError(
            f"{length}, which leaves no room for an answer. Shorten the messages.", param="messages"
        )
    if asked is None:
        return left
    if asked > left:
        raise ContextLengthExceededError(
            f"{length} and max_tokens asks for {asked} more, {prompt_tokens + asked} in all. "
            f"Shorten the messages or ask for at most {left}.",
            param="messages",
        )
    return asked


def _is_long(conversation: Conversation) -> bool:
    characters = len(conversation.instructions or "") + _CHARACTERS_PER_TOOL * len(conversation.tools)
    for message in conversation.messages:
        characters += len(message.content or "")
        if isinstance(message, AssistantMessage):
            characters += len(message.reasoning or "") + sum(len(call.arguments) for call in message.tool_calls)
    return characters > _LONG_CHARACTERS
