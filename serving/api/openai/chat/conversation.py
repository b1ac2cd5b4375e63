"""Mapping of the fields that decide a prompt to a conversation."""

from __future__ import annotations

from datetime import date

from serving.api.openai.chat import messages as wire
from serving.api.openai.chat.content import text_of
from serving.api.openai.chat.conversation_fields import ConversationFields
from serving.api.openai.chat.tools import Tool
from serving.api.wire import structured_outputs
from serving.effort import Effort
from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    FunctionCall,
    FunctionTool,
    Message,
    ResponseFormat,
    ToolMessage,
    UserMessage,
)


def conversation_of(request: ConversationFields, *, effort: Effort, today: date) -> Conversation:
    """Conversation that the model is shown for a checked request."""
    instructions = [text_of(m.content) for m in request.messages if isinstance(m, wire.SystemMessage)]
    return Conversation(
        messages=_messages(request.messages),
        effort=effort,
        current_date=today,
        instructions="\n\n".join(filter(None, instructions)) or None,
        tools=tuple(_tool(tool) for tool in request.shown_tools),
        response_format=_response_format(request.response_format),
    )


def _tool(tool: Tool) -> FunctionTool:
    function = tool.function
    return FunctionTool(function.name, function.description or "", function.parameters, bool(function.strict))


def _response_format(asked: structured_outputs.ResponseFormat | None) -> ResponseFormat | None:
    if asked is None or asked.json_schema is None:
        return None
    form = asked.json_schema
    return ResponseFormat(form.name, form.schema_, form.description or "")


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
                call_id = message.tool_call_id
                converted.append(ToolMessage(called[call_id], text_of(message.content), call_id))
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
