"""A response before anything was generated: what was asked for, as the reply repeats it."""

from __future__ import annotations

from typing import Any

from serving.api.openai.responses.request import ResponsesRequest
from serving.api.openai.responses.response import ResponseObject
from serving.api.openai.responses.text import Format, JsonSchemaTextFormat, TextSettings
from serving.api.openai.responses.tools import FunctionTool, Tool
from serving.api.wire.base_model import WireModel
from serving.effort import Effort


def draft_response(
    request: ResponsesRequest, *, response_id: str, created_at: int, effort: Effort, summary: str | None
) -> ResponseObject:
    """The response in progress. `effort` and `summary` are those used, which may not be those asked for."""
    draft = ResponseObject(
        id=response_id,
        object="response",
        created_at=created_at,
        completed_at=None,
        status="in_progress",
        background=bool(request.background),
        error=None,
        incomplete_details=None,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        model=request.model,
        output=[],
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning={"effort": effort, "summary": summary},
        safety_identifier=request.safety_identifier,
        service_tier="default",
        store=request.store is not False,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=_text(request.text),
        tool_choice=_choice(request.tool_choice),
        tools=[_tool(tool) for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        usage=None,
        user=request.user,
    )
    if request.conversation is not None:
        draft["conversation"] = {"id": request.conversation.id}
    return draft


def _tool(tool: Tool) -> dict[str, Any]:
    if not isinstance(tool, FunctionTool):
        return tool.model_dump(exclude_none=True)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def _text(settings: TextSettings | None) -> dict[str, Any]:
    form, verbosity = (None, None) if settings is None else (settings.format, settings.verbosity)
    return {"format": _format(form), "verbosity": verbosity or "medium"}


def _format(form: Format) -> dict[str, Any]:
    if isinstance(form, JsonSchemaTextFormat):
        described = {"name": form.name, "description": form.description, "schema": form.schema_}
        return {"type": "json_schema", **described, "strict": bool(form.strict)}
    return {"type": "text" if form is None else form.type}


def _choice(choice: object) -> Any:
    return choice.model_dump(exclude_none=True) if isinstance(choice, WireModel) else choice or "auto"
