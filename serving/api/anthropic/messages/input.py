"""Mapping of a Messages request's turns to a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from serving.api.anthropic.messages.content import (
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
    text_of,
)
from serving.api.anthropic.messages.request import PromptFields
from serving.api.anthropic.messages.response import INVALID_JSON
from serving.api.anthropic.messages.tools import selection_of
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

# Harmony's form wants a name, and Anthropic's has none.
_FORMAT_NAME = "answer"


def conversation_of(request: PromptFields, *, effort: Effort, today: date) -> Conversation:
    """Conversation that the model is shown for a checked request."""
    instructions = [text_of(request.system), *(_text(turn) for turn in request.messages if turn.role == "system")]
    form = request.output_config.format if request.output_config else None
    selection = selection_of(request.tool_choice)
    return Conversation(
        messages=tuple(_messages(request.messages)),
        effort=effort,
        current_date=today,
        instructions="\n\n".join(filter(None, instructions)) or None,
        tools=tuple(
            FunctionTool(tool.name, tool.description or "", tool.input_schema, bool(tool.strict))
            for tool in request.tools or ()
            if selection.shows(tool.name)
        ),
        response_format=None if form is None else ResponseFormat(_FORMAT_NAME, form.schema_),
    )


def _messages(turns: Sequence[Turn]) -> Iterator[Message]:
    called: dict[str, str] = {}
    for turn in turns:
        if turn.role == "user":
            yield from _user(turn, called)
        elif turn.role == "assistant":
            called.update({block.id: block.name for block in turn.blocks if isinstance(block, ToolUseBlock)})
            yield from _assistant(turn)


def _user(turn: Turn, called: dict[str, str]) -> Iterator[Message]:
    texts: list[TextBlock] = []
    for block in turn.blocks:
        if isinstance(block, TextBlock):
            texts.append(block)
        elif isinstance(block, ToolResultBlock):
            if texts:
                yield UserMessage(text_of(texts))
                texts = []
            text = text_of(block.content)
            yield ToolMessage(
                called[block.tool_use_id], f"Error: {text}" if block.is_error else text, block.tool_use_id
            )
    if texts:
        yield UserMessage(text_of(texts))


def _assistant(turn: Turn) -> Iterator[AssistantMessage]:
    """Thoughts begin a message of their own: what comes before them is not what they led to."""
    thoughts: list[str] = []
    texts: list[TextBlock] = []
    calls: list[FunctionCall] = []
    for block in turn.blocks:
        if isinstance(block, ThinkingBlock):
            if texts or calls:
                # The model went on thinking, so this was said on the way and is no answer.
                yield _said(thoughts, [], texts, calls)
                thoughts, texts, calls = [], [], []
            thoughts.append(block.thinking)
        elif isinstance(block, TextBlock):
            texts.append(block)
        elif isinstance(block, ToolUseBlock):
            calls.append(FunctionCall(block.id, block.name, _arguments(block.input)))
    if texts or calls or thoughts:
        yield _said(thoughts, [] if calls else texts, texts if calls else [], calls)


def _said(
    thoughts: list[str], answer: list[TextBlock], preamble: list[TextBlock], calls: list[FunctionCall]
) -> AssistantMessage:
    return AssistantMessage(
        content=text_of(answer) or None,
        reasoning="\n\n".join(filter(None, thoughts)) or None,
        commentary=text_of(preamble) or None,
        tool_calls=tuple(calls),
    )


def _arguments(value: dict[str, Any]) -> str:
    """A call's arguments as the model writes them; what was no JSON comes back as it was."""
    raw = value.get(INVALID_JSON)
    if len(value) == 1 and isinstance(raw, str):
        return raw
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(turn: Turn) -> str:
    return text_of([block for block in turn.blocks if isinstance(block, TextBlock)])
