"""Mapping of a checked Messages request to a generation, which has nothing of HTTP or JSON in it."""

from __future__ import annotations

import json
from datetime import date

from serving.answering.reasoning import reasoning_limits
from serving.api.anthropic.messages.input import conversation_of
from serving.api.anthropic.messages.request import MessagesRequest
from serving.api.anthropic.messages.tools import selection_of
from serving.api.wire.sampling_fields import SMALLEST_TOP_P
from serving.engine.base import Constraint, Sampling
from serving.generation.types import ChatGeneration
from serving.settings.models import ModelSettings


def messages_generation(
    request: MessagesRequest, settings: ModelSettings, *, request_id: str, today: date
) -> ChatGeneration:
    """Generation that `request` asks of a model with these `settings`.

    `request_id` is the engine's and must be unique among all requests under way. Raises InvalidValueError for an
    effort that the settings refuse.
    """
    thinking, choice = request.thinking, request.tool_choice
    limits = reasoning_limits(
        settings.reasoning,
        effort=request.effort,
        max_reasoning_tokens=thinking.budget_tokens if thinking else None,
        effort_param=request.effort_field,
    )
    return ChatGeneration(
        request_id=request_id,
        conversation=conversation_of(request, effort=limits.effort, today=today),
        sampling=_sampling(request),
        max_tokens=request.max_tokens,
        # Clients of Anthropic's API must send it, and send the most that its models have.
        caps_max_tokens=True,
        stop=tuple(request.stop_sequences or ()),
        include_reasoning=request.shows_thinking,
        forced_tools=selection_of(choice).forced(tool.name for tool in request.tools or ()),
        parallel_tool_calls=not (choice and choice.disable_parallel_tool_use),
        answer=_answer(request),
        max_reasoning_tokens=limits.max_reasoning_tokens,
        min_answer_tokens=limits.min_answer_tokens,
        answer_share=settings.truncation_answer_share,
    )


def constraints_in(request: MessagesRequest) -> list[tuple[str, Constraint]]:
    """Constraints of answer and calls, each with the request's field that it came in."""
    answer = _answer(request)
    calls = [
        (f"tools[{i}].input_schema", Constraint("json_schema", json.dumps(tool.input_schema)))
        for i, tool in enumerate(request.tools or ())
        if tool.strict
    ]
    return [*([] if answer is None else [("output_config.format.schema", answer)]), *calls]


def _sampling(request: MessagesRequest) -> Sampling:
    return Sampling(
        max_tokens=request.max_tokens,
        temperature=1.0 if request.temperature is None else float(request.temperature),
        top_p=max(1.0 if request.top_p is None else float(request.top_p), SMALLEST_TOP_P),
        top_k=request.top_k or 0,
    )


def _answer(request: MessagesRequest) -> Constraint | None:
    form = request.output_config.format if request.output_config else None
    return None if form is None else Constraint("json_schema", json.dumps(form.schema_))
