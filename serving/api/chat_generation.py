"""A checked chat request becomes a generation: nothing of HTTP or JSON is left in it."""

from __future__ import annotations

from datetime import date

from serving.engine.base import Sampling
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    Effort,
    FunctionCall,
    FunctionTool,
    Message,
    ToolMessage,
    UserMessage,
)
from serving.protocol import messages as wire
from serving.protocol.chat_request import ChatCompletionRequest
from serving.protocol.content import text_of
from serving.protocol.tools import Tool

# vLLM wants top_p above 0; OpenAI's 0 means the likeliest token alone, which any value this small means too.
_SMALLEST_TOP_P = 1e-6


def chat_generation(request: ChatCompletionRequest, *, request_id: str, effort: Effort, today: date) -> ChatGeneration:
    """What `request` asks for. `request_id` is the engine's and must be unique among all requests under way."""
    return ChatGeneration(
        request_id=request_id,
        conversation=_conversation(request, effort, today),
        sampling=_sampling(request),
        max_tokens=request.token_limit,
        n=request.n or 1,
        stop=tuple(request.stop or ()),
        include_reasoning=request.include_reasoning is not False,
    )


def _conversation(request: ChatCompletionRequest, effort: Effort, today: date) -> Conversation:
    instructions = [text_of(m.content) for m in request.messages if isinstance(m, wire.SystemMessage)]
    # Tools that must not be called are not shown: the one way of keeping that promise without a grammar.
    tools = () if request.tool_choice == "none" else tuple(_tool(tool) for tool in request.tools or ())
    return Conversation(
        messages=_messages(request.messages),
        effort=effort,
        current_date=today,
        instructions="\n\n".join(filter(None, instructions)) or None,
        tools=tools,
    )


def _tool(tool: Tool) -> FunctionTool:
    function = tool.function
    return FunctionTool(function.name, function.description or "", function.parameters)


def _messages(messages: list[wire.Message]) -> tuple[Message, ...]:
    converted: list[Message] = []
    called: dict[str, str] = {}
    for message in messages:
        match message:
            case wire.UserMessage():
                converted.append(UserMessage(text_of(message.content)))
            case wire.AssistantMessage():
                assistant = _assistant(message)
                called.update({call.id: call.name for call in assistant.tool_calls})
                converted.append(assistant)
            case wire.ToolMessage():
                converted.append(ToolMessage(called[message.tool_call_id], text_of(message.content)))
            case wire.SystemMessage():
                pass  # among the instructions
    return tuple(converted)


def _assistant(message: wire.AssistantMessage) -> AssistantMessage:
    calls = tuple(FunctionCall(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ())
    return AssistantMessage(
        content=text_of(message.content) or message.refusal or None,
        reasoning=message.reasoning or message.reasoning_content or None,
        commentary=message.commentary or None,
        tool_calls=calls,
    )


def _sampling(request: ChatCompletionRequest) -> Sampling:
    return Sampling(
        # The plan settles it; 1 is only what the field needs where the request says nothing.
        max_tokens=request.token_limit or 1,
        temperature=_or(request.temperature, 1.0),
        top_p=max(_or(request.top_p, 1.0), _SMALLEST_TOP_P),
        top_k=max(request.top_k or 0, 0),
        min_p=_or(request.min_p, 0.0),
        seed=request.seed,
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, 1.0),
        logit_bias={int(token): bias for token, bias in request.logit_bias.items()} if request.logit_bias else None,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
