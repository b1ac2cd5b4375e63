"""Mapping of the fields that decide a prompt to a conversation."""

from __future__ import annotations

from datetime import date

from serving.api.openai.chat import messages as wire
from serving.api.openai.chat.content import text_of
from serving.api.openai.chat.conversation_fields import ConversationFields
from serving.api.openai.chat.tools import Tool
from serving.api.wire import structured_outputs
from serving.api.wire.verbosity import verbosity_line
from serving.effort import Effort
from serving.generation.answer import BETWEEN_MESSAGES
from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    FunctionCall,
    FunctionTool,
    Message,
    ResponseFormat,
    ToolMessage,
    UserMessage,
    author_name,
)


def conversation_of(request: ConversationFields, *, effort: Effort, today: date) -> Conversation:
    """Conversation that the model is shown for a checked request."""
    instructions = [_instruction(m) for m in request.messages if isinstance(m, wire.SystemMessage)]
    return Conversation(
        messages=_messages(request.messages),
        effort=effort,
        current_date=today,
        instructions="\n\n".join(filter(None, (*instructions, verbosity_line(request.verbosity)))) or None,
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
                converted.append(
                    UserMessage(text_of(message.content), author_name(message.name) if message.name else None)
                )
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
        content=_without(message.commentary, text_of(message.content)) or message.refusal or None,
        reasoning=message.analysis,
        commentary=message.commentary or None,
        tool_calls=calls,
        name=author_name(message.name) if message.name else None,
    )


def _without(commentary: str | None, content: str) -> str:
    """An answer's content without the preamble that replies repeat there."""
    if not commentary or not content.startswith(commentary):
        return content
    rest = content[len(commentary) :]
    return rest.removeprefix(BETWEEN_MESSAGES) if not rest or rest.startswith(BETWEEN_MESSAGES) else content


def _instruction(message: wire.SystemMessage) -> str:
    """Text of instructions, after the name of their author where there is one: all of them share one header."""
    text, name = text_of(message.content), author_name(message.name) if message.name else None
    return f"{name}:\n{text}" if name and text else text
