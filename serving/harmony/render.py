"""Rendering of a conversation to the prompt's token ids.

Follows OpenAI's harmony guide and agrees with oss-harmony's renderer token for token (tests/harmony/test_render.py).
The system message is worded by oss-harmony; the rest is put together here, because its renderer panics or takes minutes
on some texts (stretches.py), loses what tools' schemas say (typescript.py), and because its `auto_drop_analysis` only
drops reasoning before the first final message and none at all while a tool loop runs.

Everything a client can influence goes through `encode`, so it cannot spell structure.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import date

import openai_harmony as library

from serving.effort import Effort
from serving.harmony.channels import Channel
from serving.harmony.conversation import AssistantMessage, Conversation, Message, ToolMessage, UserMessage
from serving.harmony.header_tokens import call_header, message_header, prompt_end
from serving.harmony.history import first_fresh, is_answer, results_by_call
from serving.harmony.response_formats import response_formats_section
from serving.harmony.tools import header_name, tools_section
from serving.harmony.vocabulary import CALL, END, encode, encoding

_EFFORTS = {
    "low": library.ReasoningEffort.LOW,
    "medium": library.ReasoningEffort.MEDIUM,
    "high": library.ReasoningEffort.HIGH,
}


def render_prompt(conversation: Conversation) -> list[int]:
    """Render the whole prompt; the last two are `<|start|>assistant`, so that a completion begins in a header.

    Raises InvalidValueError for tools and response formats that cannot be shown (see tools.py, response_formats.py).
    """
    tokens = [*_instructions(conversation)]
    for _, part in _parts(conversation.messages):
        tokens += part
    return [*tokens, *prompt_end()]


def fixed_tokens(conversation: Conversation) -> int:
    """Count the tokens of the prompt that no message adds: instructions, tools and its end. Raises likewise."""
    return len(_instructions(conversation)) + len(prompt_end())


def message_tokens(conversation: Conversation) -> list[int]:
    """Count the tokens that each message takes in the prompt; with fixed_tokens they add up to the prompt's length.

    Leaving out messages from the front changes no other count as long as the last user message and all after it
    stay, and no result stays without its call.
    """
    counts = [0] * len(conversation.messages)
    for index, part in _parts(conversation.messages):
        counts[index] += len(part)
    return counts


def _instructions(conversation: Conversation) -> list[int]:
    system = _system(conversation.effort, conversation.current_date, bool(conversation.tools))
    return [*system, *_developer(conversation)]


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


def _parts(messages: Sequence[Message]) -> Iterator[tuple[int, list[int]]]:
    """The messages' tokens in the prompt's order, in parts, each with the index of its message."""
    fresh = first_fresh(messages)
    results = results_by_call(messages)
    placed = {place for place, _ in results.values()}
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            yield index, [*message_header(_author("user", message.name)), *encode(message.content), END]
        elif isinstance(message, ToolMessage):
            if index not in placed:
                yield index, _result(message)
        else:
            yield index, _said(message, with_reasoning=index >= fresh, answers=is_answer(messages, index))
            for number, call in enumerate(message.tool_calls):
                yield index, [*call_header(header_name(call.name), plain=call.plain), *encode(call.arguments), CALL]
                if (index, number) in results:
                    place, result = results[index, number]
                    yield place, _result(result)


def _said(message: AssistantMessage, *, with_reasoning: bool, answers: bool) -> list[int]:
    """What the model said in words."""
    said: list[tuple[Channel, str | None]] = [
        ("analysis", message.reasoning if with_reasoning else None),
        ("commentary", message.commentary),
        # On final a preamble would end the turn.
        ("final" if answers else "commentary", message.content),
    ]
    tokens: list[int] = []
    for channel, text in said:
        if text:
            tokens += [*message_header(_author("assistant", message.name), channel), *encode(text), END]
    return tokens


def _author(role: str, name: str | None) -> str:
    """Author of a message in its header, as oss-harmony spells a name beside a role."""
    return role if name is None else f"{role}:{name}"


def _result(message: ToolMessage) -> list[int]:
    header = message_header(f"functions.{header_name(message.name)} to=assistant", "commentary")
    return [*header, *encode(message.content), END]
