"""Dialects of server types: the request's body, and the fields that a type does not support.

Sources: OpenAI's API reference; Ollama's docs/openai.md; LM Studio's page on its OpenAI endpoints; Hugging Face's
inference providers' chat completion; vLLM's OpenAI-compatible server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.engine.base import AS_MANY_AS_FIT
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import AssistantMessage, Conversation, FunctionTool, Message, UserMessage
from serving.settings.backends import BackendType

_OPENAI_REASONERS = re.compile(r"(.*/)?(gpt-oss|gpt-5|o\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Fields that a type of server supports beyond the common ones. `reasoning_field` takes the analysis of history."""

    reasoning_field: str | None = None
    max_tokens_field: str = "max_tokens"
    many_choices: bool = True
    logprobs: bool = True
    logit_bias: bool = True
    vllm_sampling: bool = False
    constraints: bool = False
    ours: bool = False
    only_reasoners_take_effort: bool = False


DIALECTS: Mapping[BackendType, Dialect] = {
    "openai": Dialect(max_tokens_field="max_completion_tokens", only_reasoners_take_effort=True),
    "ollama": Dialect(reasoning_field="reasoning", many_choices=False, logprobs=False, logit_bias=False),
    "lmstudio": Dialect(reasoning_field="reasoning", many_choices=False, logprobs=False),
    "huggingface": Dialect(many_choices=False, logit_bias=False),
    "vllm": Dialect(reasoning_field="reasoning", vllm_sampling=True, constraints=True),
    "serving": Dialect(reasoning_field="reasoning", vllm_sampling=True, constraints=True, ours=True),
}


def unsupported(dialect: Dialect, request: ChatGeneration) -> str | None:
    """First field of `request` that would change the answer and that the dialect lacks; None where there is none."""
    sampling = request.sampling
    asked = (
        ("n", request.n > 1 and not dialect.many_choices),
        ("logprobs", sampling.logprobs is not None and not dialect.logprobs),
        ("logit_bias", bool(sampling.logit_bias) and not dialect.logit_bias),
        ("top_k", sampling.top_k > 0 and not dialect.vllm_sampling),
        ("min_p", sampling.min_p > 0 and not dialect.vllm_sampling),
        ("repetition_penalty", sampling.repetition_penalty != 1 and not dialect.vllm_sampling),
        ("min_tokens", sampling.min_tokens > 0 and not dialect.vllm_sampling),
        ("stop_token_ids", bool(sampling.stop_token_ids) and not dialect.vllm_sampling),
        ("structured_outputs", _needs_constraints(request) and not dialect.constraints),
        ("tools", bool(request.plain_calls)),
        ("max_reasoning_tokens", request.max_reasoning_tokens is not None and not dialect.ours),
        ("min_answer_tokens", request.min_answer_tokens > 0 and not dialect.ours),
    )
    return next((field for field, matters in asked if matters), None)


def _needs_constraints(request: ChatGeneration) -> bool:
    return request.answer is not None and request.answer.kind not in ("json_object", "json_schema")


def body(dialect: Dialect, request: ChatGeneration, model: str) -> dict[str, Any]:
    """Body of a streamed POST /chat/completions; `model` is the server's own name."""
    fields: dict[str, Any] = {
        "model": model,
        "messages": _messages(dialect, request.conversation),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    fields |= _sampling(dialect, request) | _tools(request) | _form(request)
    if not dialect.only_reasoners_take_effort or _OPENAI_REASONERS.match(model):
        fields["reasoning_effort"] = request.conversation.effort
    if request.max_tokens is not None:
        fields[dialect.max_tokens_field] = request.max_tokens
    if request.n > 1:
        fields["n"] = request.n
    if request.stop:
        fields["stop"] = list(request.stop)
    if dialect.ours:
        fields |= _of_ours(request)
    return fields


def _messages(dialect: Dialect, conversation: Conversation) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": conversation.instructions}] if conversation.instructions else []
    return [*messages, *(_message(dialect, message) for message in conversation.messages)]


def _message(dialect: Dialect, message: Message) -> dict[str, Any]:
    if isinstance(message, UserMessage):
        return {"role": "user", "content": message.content, **({"name": message.name} if message.name else {})}
    if isinstance(message, AssistantMessage):
        return _assistant(dialect, message)
    return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}


def _assistant(dialect: Dialect, message: AssistantMessage) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": "assistant", "content": message.content}
    if message.name:
        shown["name"] = message.name
    if message.commentary and dialect.ours:
        shown["commentary"] = message.commentary
    elif message.commentary:
        # Elsewhere what was said before a call is content.
        shown["content"] = "\n\n".join(filter(None, (message.commentary, message.content)))
    if message.reasoning and dialect.reasoning_field:
        shown[dialect.reasoning_field] = message.reasoning
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    elif shown["content"] is None:
        shown["content"] = ""
    return shown


def _sampling(dialect: Dialect, request: ChatGeneration) -> dict[str, Any]:
    sampling = request.sampling
    fields: dict[str, Any] = {}
    if sampling.temperature != 1 or not dialect.only_reasoners_take_effort:
        fields["temperature"] = sampling.temperature
    others = (
        ("top_p", sampling.top_p, 1.0),
        ("seed", sampling.seed, None),
        ("presence_penalty", sampling.presence_penalty, 0.0),
        ("frequency_penalty", sampling.frequency_penalty, 0.0),
        ("top_k", sampling.top_k, 0),
        ("min_p", sampling.min_p, 0.0),
        ("repetition_penalty", sampling.repetition_penalty, 1.0),
    )
    fields |= {name: value for name, value, neutral in others if value != neutral}
    if sampling.min_tokens:
        fields |= {"ignore_eos": True} if sampling.min_tokens == AS_MANY_AS_FIT else {"min_tokens": sampling.min_tokens}
    if sampling.stop_token_ids:
        fields["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    return fields


def _tools(request: ChatGeneration) -> dict[str, Any]:
    tools, forced = request.conversation.tools, request.forced_tools
    if not tools:
        return {}
    # Who must call one of a few is offered these few: not every server knows of lists of allowed tools.
    offered = [_tool(tool) for tool in tools if not forced or tool.name in forced]
    fields: dict[str, Any] = {"tools": offered}
    if forced:
        fields["tool_choice"] = "required"
    if not request.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: FunctionTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _form(request: ChatGeneration) -> dict[str, Any]:
    answer, shown = request.answer, request.conversation.response_format
    if answer is None:
        return {}
    if answer.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if answer.kind == "json_schema":
        form = {"name": shown.name if shown else "answer", "schema": json.loads(answer.value), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": form}}
    value = json.loads(answer.value) if answer.kind == "choice" else answer.value
    return {"structured_outputs": {answer.kind: value}}


def _of_ours(request: ChatGeneration) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.max_reasoning_tokens is not None:
        fields["max_reasoning_tokens"] = request.max_reasoning_tokens
    if request.min_answer_tokens:
        fields["min_answer_tokens"] = request.min_answer_tokens
    if request.truncate:
        fields["truncation"] = "auto"
    return fields
