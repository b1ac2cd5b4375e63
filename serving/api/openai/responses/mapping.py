"""Mapping of a checked Responses request to a generation, which has nothing of HTTP or JSON in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date

from serving.answering.reasoning import ReasoningLimits
from serving.api.openai.responses.input import StoredItem, instructions_of, messages_of
from serving.api.openai.responses.request import ResponsesRequest
from serving.api.openai.responses.text import Format, JsonObjectTextFormat, JsonSchemaTextFormat
from serving.api.openai.responses.toolbox import Toolbox
from serving.api.openai.responses.tools import selection_of
from serving.api.wire.sampling_fields import SMALLEST_TOP_P
from serving.api.wire.verbosity import verbosity_line
from serving.engine.base import Constraint, Sampling
from serving.errors import ApiError
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import Conversation, ResponseFormat


def responses_generation(
    request: ResponsesRequest,
    earlier: Sequence[StoredItem],
    new: Sequence[StoredItem],
    toolbox: Toolbox,
    *,
    request_id: str,
    limits: ReasoningLimits,
    today: date,
    answer_share: float,
) -> ChatGeneration:
    """Generation that `request` asks for: `new` are its own items, `earlier` those of the responses it continues.
    `toolbox` has its tools.

    `request_id` is the engine's and must be unique among all requests under way. Raises InvalidValueError for an
    output without its call.
    """
    items = [*earlier, *new]
    selection = selection_of(request.tool_choice)
    tools = [tool for tool in toolbox if selection.shows(tool.function.name)]
    form = request.text.format if request.text else None
    return ChatGeneration(
        request_id=request_id,
        conversation=Conversation(
            messages=messages_of(items, first_new=len(earlier), is_plain=toolbox.is_plain),
            effort=limits.effort,
            current_date=today,
            instructions=_instructions(request, items),
            tools=tuple(tool.function for tool in tools),
            response_format=_response_format(form),
        ),
        sampling=_sampling(request),
        max_tokens=request.max_output_tokens,
        forced_tools=selection.forced(tool.function.name for tool in tools),
        plain_calls=tuple((tool.function.name, tool.body) for tool in tools if tool.body is not None),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        answer=_constraint(form),
        max_reasoning_tokens=limits.max_reasoning_tokens,
        min_answer_tokens=limits.min_answer_tokens,
        truncate=request.truncation == "auto",
        answer_share=answer_share,
    )


def _instructions(request: ResponsesRequest, items: Sequence[StoredItem]) -> str | None:
    line = verbosity_line(request.text.verbosity if request.text else None)
    return "\n\n".join(filter(None, (instructions_of(request.instructions, items), line))) or None


def _sampling(request: ResponsesRequest) -> Sampling:
    return Sampling(
        # The plan settles it; 1 is only what the field needs where the request says nothing.
        max_tokens=request.max_output_tokens or 1,
        temperature=1.0 if request.temperature is None else float(request.temperature),
        top_p=max(1.0 if request.top_p is None else float(request.top_p), SMALLEST_TOP_P),
        logprobs=request.logprobs,
    )


def _response_format(form: Format) -> ResponseFormat | None:
    if isinstance(form, JsonSchemaTextFormat):
        return ResponseFormat(form.name, form.schema_, form.description or "")
    return None


def _constraint(form: Format) -> Constraint | None:
    if isinstance(form, JsonSchemaTextFormat):
        return Constraint("json_schema", json.dumps(form.schema_))
    return Constraint("json_object") if isinstance(form, JsonObjectTextFormat) else None


def constraints_in(request: ResponsesRequest, toolbox: Toolbox) -> list[tuple[str, Constraint]]:
    """Constraints of answer and calls, each with the request's field that it came in."""
    form = request.text.format if request.text else None
    answer = _constraint(form)
    field = "text.format.schema" if isinstance(form, JsonSchemaTextFormat) else "text.format"
    calls = [
        (f"{tool.place}.parameters", Constraint("json_schema", json.dumps(tool.function.parameters)))
        for tool in toolbox
        if tool.function.strict and tool.function.parameters is not None
    ]
    calls += [(f"{tool.place}.{tool.body_field}", tool.body) for tool in toolbox if tool.body is not None]
    return [*([] if answer is None else [(field, answer)]), *calls]


_PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}


def in_our_words(error: ApiError, places: Sequence[str] = ()) -> ApiError:
    """Rename chat's fields in `error` to those of this API. `places` are those of the tools that the model is shown."""
    param = error.param
    if param is None:
        return error
    first, dot, rest = param.partition(".")
    if (found := re.fullmatch(r"tools\[(\d+)\]", first)) is not None:
        number = int(found[1])
        first = places[number] if number < len(places) else first
        error.param = f"{first}.{rest.removeprefix('function.')}" if dot and rest != "function" else first
    elif first in _PARAMS:
        error.param = _PARAMS[first]
    error.message = error.message.replace("max_tokens", "max_output_tokens").replace("your messages", "the input")
    return error
