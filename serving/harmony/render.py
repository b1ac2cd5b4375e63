"""A conversation as the prompt's token ids.

Follows OpenAI's harmony guide and agrees with oss-harmony's renderer token for token (tests/harmony/test_render.py).
System message and tools are worded by oss-harmony; messages are put together here, because its renderer panics or
takes minutes on some texts (stretches.py), and because its `auto_drop_analysis` only drops reasoning before the first
final message and none at all while a tool loop runs.

Everything a client can influence goes through `encode`, so it cannot spell structure.
"""

from __future__ import annotations

import functools
from datetime import date

import openai_harmony as library

from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    Effort,
    FunctionCall,
    Message,
    ToolMessage,
    UserMessage,
)
from serving.harmony.headers import call_header, message_header, prompt_end
from serving.harmony.response_formats import response_formats_section
from serving.harmony.tools import header_name, tools_section
from serving.harmony.vocabulary import CALL, END, encode, encoding

_EFFORTS = {
    "low": library.ReasoningEffort.LOW,
    "medium": library.ReasoningEffort.MEDIUM,
    "high": library.ReasoningEffort.HIGH,
}


def render_prompt(conversation: Conversation) -> list[int]:
    """Token ids of the whole prompt; the last two are `<|start|>assistant`, so that a completion begins in a header.

    Raises InvalidValueError for tools and response formats that cannot be shown (see tools.py, response_formats.py).
    """
    tokens = list(_system(conversation.effort, conversation.current_date, bool(conversation.tools)))
    tokens += _developer(conversation)
    reasoning_from = _first_fresh(conversation.messages)
    for index, message in enumerate(conversation.messages):
        match message:
            case UserMessage():
                tokens += [*message_header("user"), *encode(message.content), END]
            case AssistantMessage():
                tokens += _assistant(message, with_reasoning=index >= reasoning_from)
            case ToolMessage():
                name = header_name(message.name)
                header = message_header(f"functions.{name} to=assistant", "commentary")
                tokens += [*header, *encode(message.content), END]
    return [*tokens, *prompt_end()]


@functools.lru_cache(maxsize=64)
def _system(effort: Effort, current_date: date | None, has_tools: bool) -> tuple[int, ...]:
    content = library.SystemContent.new().with_reasoning_effort(_EFFORTS[effort])
    if current_date is not None:
        content = content.with_conversation_start_date(current_date.isoformat())
    messages = [library.Message.from_role_and_content(library.Role.SYSTEM, content)]
    if has_tools:
        # The library mentions the tools' channel only where it sees a tool in the same conversation.
        tool = library.DeveloperContent.new().with_function_tools([library.ToolDescription.new("_", "")])
        messages.append(library.Message.from_role_and_content(library.Role.DEVELOPER, tool))
    tokens = encoding().render_conversation(library.Conversation.from_messages(messages))
    return tuple(tokens[: tokens.index(END) + 1])


def _developer(conversation: Conversation) -> list[int]:
    sections = []
    if conversation.instructions:
        sections.append(f"# Instructions\n\n{conversation.instructions}")
    if conversation.tools:
        sections.append(tools_section(conversation.tools))
    if conversation.response_format is not None:
        sections.append(response_formats_section(conversation.response_format))
    if not sections:
        return []
    return [*message_header("developer"), *encode("\n\n".join(sections)), END]


def _first_fresh(messages: tuple[Message, ...]) -> int:
    """Index from which reasoning is kept: after the last answer or user message, whichever is later.

    In a tool loop the model still needs the thoughts that led to its calls; an answer makes them old, and a new
    question does too.
    """
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, UserMessage) or (isinstance(message, AssistantMessage) and _is_answer(message)):
            return index + 1
    return 0


def _is_answer(message: AssistantMessage) -> bool:
    return bool(message.content) and not message.tool_calls


def _assistant(message: AssistantMessage, *, with_reasoning: bool) -> list[int]:
    tokens: list[int] = []
    if message.reasoning and with_reasoning:
        tokens += [*message_header("assistant", "analysis"), *encode(message.reasoning), END]
    preambles = [message.commentary]
    if not _is_answer(message):
        # Content beside tool calls was said before them; on `final` it would end the turn.
        preambles.append(message.content)
    for text in filter(None, preambles):
        tokens += [*message_header("assistant", "commentary"), *encode(text), END]
    for call in message.tool_calls:
        tokens += _call(call)
    if message.content and _is_answer(message):
        tokens += [*message_header("assistant", "final"), *encode(message.content), END]
    return tokens


def _call(call: FunctionCall) -> list[int]:
    return [*call_header(header_name(call.name)), *encode(call.arguments), CALL]
