"""Conversations as the model sees them, before they become tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from serving.effort import Effort


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """Function that the model may call; `parameters` is a JSON schema, which `strict` holds the arguments to."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """Form of the final answer that the developer message asks for; `schema` is a JSON schema."""

    name: str
    schema: dict[str, Any]
    description: str = ""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """Call that the model made; `arguments` is the text it wrote, byte for byte: JSON, or `plain` text."""

    id: str
    name: str
    arguments: str
    plain: bool = False


@dataclass(frozen=True, slots=True)
class UserMessage:
    """Message of the user; `name` tells one of several users from the others (see author_name)."""

    content: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """Message of the model: `reasoning` on the analysis channel, `commentary` preambles, `content` on final.

    `name` tells one of several agents from the others (see author_name).
    """

    content: str | None = None
    reasoning: str | None = None
    commentary: str | None = None
    tool_calls: tuple[FunctionCall, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """Result of a function; `name` is the function's, found by `call_id`, which is "" where it is not known."""

    name: str
    content: str
    call_id: str = ""


Message = UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Conversation:
    """Conversation: everything that decides the prompt's tokens.

    `instructions` is the developer message (OpenAI's system and developer messages, joined). `current_date` is
    written into the system message; it is passed in, never read from a clock here.
    """

    messages: tuple[Message, ...]
    effort: Effort = "medium"
    current_date: date | None = None
    instructions: str | None = None
    tools: tuple[FunctionTool, ...] = ()
    response_format: ResponseFormat | None = None


_NOT_IN_NAMES = re.compile(r"[\s<|>\\/:]+")
_LONGEST_NAME = 64


def author_name(name: str) -> str | None:
    """A client's name for an author as a message's header can have it: up to 64 characters, no blanks or markup."""
    return _NOT_IN_NAMES.sub("_", name.strip())[:_LONGEST_NAME] or None


_CHARACTERS_PER_TOOL = 500


def approximate_size(conversation: Conversation) -> int:
    """Estimate the characters to be rendered; a tool counts 500."""
    characters = len(conversation.instructions or "") + _CHARACTERS_PER_TOOL * len(conversation.tools)
    for message in conversation.messages:
        characters += len(message.content or "")
        if isinstance(message, AssistantMessage):
            characters += len(message.reasoning or "") + sum(len(call.arguments) for call in message.tool_calls)
    return characters
