"""Mapping of a checked chat request to a generation, which has nothing of HTTP or JSON in it."""

from __future__ import annotations

import json
from datetime import date

from serving.answering.reasoning import reasoning_limits
from serving.api.openai.chat.conversation import conversation_of
from serving.api.openai.chat.conversation_fields import ConversationFields
from serving.api.openai.chat.request import ChatCompletionRequest
from serving.api.openai.sampling import constraint_of, sampling_of
from serving.engine.base import Constraint
from serving.generation.types import ChatGeneration
from serving.settings.models import ModelSettings


def chat_generation(
    request: ChatCompletionRequest, settings: ModelSettings, *, request_id: str, today: date
) -> ChatGeneration:
    """Generation that `request` asks of a model with these `settings`.

    `request_id` is the engine's and must be unique among all requests under way. Raises InvalidValueError for an
    effort that the settings refuse.
    """
    limits = reasoning_limits(
        settings.reasoning,
        effort=request.effort,
        max_reasoning_tokens=request.reasoning_budget,
        min_answer_tokens=request.min_answer_tokens,
        effort_param=request.effort_field,
    )
    return ChatGeneration(
        request_id=request_id,
        conversation=conversation_of(request, effort=limits.effort, today=today),
        sampling=sampling_of(request, logprobs=(request.top_logprobs or 0) if request.logprobs else None),
        max_tokens=request.token_limit,
        n=request.n or 1,
        stop=tuple(request.stop or ()),
        include_reasoning=request.shows_reasoning,
        forced_tools=request.forced_tools,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        answer=constraint_of(request),
        max_reasoning_tokens=limits.max_reasoning_tokens,
        min_answer_tokens=limits.min_answer_tokens,
        truncate=request.truncates,
        answer_share=settings.truncation_answer_share,
    )


def constraints_in(request: ConversationFields) -> list[tuple[str, Constraint]]:
    """Constraints of answer and calls, each with the request's field that it came in."""
    asked = request.answer_format
    wanted = [] if asked is None else [(asked.field, Constraint(asked.kind, asked.value))]
    for i, tool in enumerate(request.tools or ()):
        function = tool.function
        if function.strict and function.parameters is not None:
            schema = Constraint("json_schema", json.dumps(function.parameters))
            wanted.append((f"tools[{i}].function.parameters", schema))
    return wanted
