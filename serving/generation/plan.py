"""Plan of a chat request: the prompt's tokens, max_tokens, and the engine request of each segment of a choice."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

from serving.engine.base import Engine, EngineRequest
from serving.engine.seeds import wrapped_seed
from serving.errors import ContextLengthExceededError
from serving.generation.choice import ChoiceReader
from serving.generation.constraints import for_engine
from serving.generation.segment import Segment
from serving.generation.truncation import truncated
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import approximate_size
from serving.harmony.tokenization import render_prompt

# About 1.5 ms of rendering. Up to here a hop to a thread and back costs more than other requests gain from it.
_LONG_CHARACTERS = 10_000
# Spreads the seeds of a choice's segments; that of its first is seed + index, as in vLLM.
_SEED_STRIDE = 0x9E3779B97F4A7C15
_CONTINUES = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """Prompt of a chat request, and the completion's length that is settled for it."""

    request: ChatGeneration
    prompt_token_ids: list[int]
    max_tokens: int

    def segment_request(self, reader: ChoiceReader, number: int, *, stream: bool) -> EngineRequest:
        """Make the engine request of segment `number`, counted from 0, of the choice that `reader` reads.

        An engine that sends everything at once gets no more tokens than the reasoning budget allows unchecked. Segments
        after the first have the prefix in the cache and a client that waits: they go before new requests.
        """
        sampling, segment = self.request.sampling, reader.segment
        most = reader.tokens_left
        if not stream and (unchecked := reader.tokens_to_check) is not None:
            most = min(most, unchecked)
        bias = segment.logit_bias
        sampling = replace(
            sampling,
            max_tokens=most,
            seed=None if sampling.seed is None else wrapped_seed(sampling.seed + reader.index + number * _SEED_STRIDE),
            min_tokens=_min_tokens(sampling.min_tokens - len(reader.tokens), most, segment),
            stop_token_ids=tuple(dict.fromkeys(segment.stop_token_ids + sampling.stop_token_ids)),
            logit_bias={**(sampling.logit_bias or {}), **bias} if bias else sampling.logit_bias,
        )
        return EngineRequest(
            f"{self.request.request_id}-{reader.index}-{number}",
            self.prompt_token_ids,
            sampling,
            stream=stream,
            completion_token_ids=list(reader.tokens),
            constraint=None if segment.constraint is None else for_engine(segment.constraint),
            constrained_tokens=len(reader.tokens) - segment.begins if segment.constraint else 0,
            priority=_CONTINUES if number else 0,
        )


def _min_tokens(left: int, most: int, segment: Segment) -> int:
    """Fewest tokens of a segment of at most `most`; a constraint or a call ends where it must."""
    return max(0, min(left, most)) if segment.kind == "free" and segment.constraint is None else 0


async def plan(engine: Engine, request: ChatGeneration) -> Plan:
    """Render the prompt and settle max_tokens: what was asked for, or what the context has left.

    Raises ContextLengthExceededError where prompt and max_tokens do not fit, InvalidValueError for tools that cannot
    be rendered, EngineNotReadyError.
    """
    info = await engine.prepare()
    if approximate_size(request.conversation) > _LONG_CHARACTERS:
        # Tokenizing one message holds the GIL; in a thread others get a turn between messages.
        prompt = await asyncio.to_thread(_prompt, request, info.max_model_len)
    else:
        prompt = _prompt(request, info.max_model_len)
    max_tokens = _max_tokens(len(prompt), request, info.max_model_len)
    return Plan(request, prompt, min(max_tokens, info.max_output_tokens or max_tokens))


def _prompt(request: ChatGeneration, max_model_len: int) -> list[int]:
    """The whole conversation's tokens or, where it may be truncated and is too long, those of what fits."""
    prompt = render_prompt(request.conversation)
    if not request.truncate:
        return prompt
    answer = request.max_tokens or math.ceil(max_model_len * request.answer_share)
    available = max_model_len - answer
    if len(prompt) <= available:
        return prompt
    return render_prompt(truncated(request.conversation, available, lambda part: len(render_prompt(part))))


def _max_tokens(prompt_tokens: int, request: ChatGeneration, max_model_len: int) -> int:
    asked = request.max_tokens
    left = max_model_len - prompt_tokens
    length = f"This model's maximum context length is {max_model_len} tokens; your messages have {prompt_tokens}"
    if left < 1:
        raise ContextLengthExceededError(
            f"{length}, which leaves no room for an answer. Shorten the messages.", param="messages"
        )
    if asked is None:
        return left
    if asked > left and request.caps_max_tokens:
        return left
    if asked > left:
        raise ContextLengthExceededError(
            f"{length} and max_tokens asks for {asked} more, {prompt_tokens + asked} in all. "
            f"Shorten the messages or ask for at most {left}.",
            param="messages",
        )
    return asked
