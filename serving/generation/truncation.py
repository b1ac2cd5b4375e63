"""Truncation of conversations that are too long for the context (`truncation: auto`): the oldest turns go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from serving.harmony.conversation import AssistantMessage, Conversation, Message, ToolMessage, UserMessage


def truncated(conversation: Conversation, available: int, count: Callable[[Conversation], int]) -> Conversation:
    """Drop the oldest turns of `conversation` until `count` of it is at most `available` tokens.

    A turn begins with a user message. Instructions, tools, and the last user message with all that follows it stay, and
    a call stays or goes together with its results. The result may be too long even so; the caller checks it. Counts
    about log2(turns) conversations, each shorter than the whole.
    """
    cuts = _cuts(conversation.messages)
    fewest, most = 0, len(cuts) - 1
    # Dropping more never makes it longer: a message's tokens do not depend on those before it.
    while fewest < most:
        middle = (fewest + most) // 2
        if count(_from(conversation, cuts[middle])) <= available:
            most = middle
        else:
            fewest = middle + 1
    return _from(conversation, cuts[most])


def _from(conversation: Conversation, begin: int) -> Conversation:
    return replace(conversation, messages=conversation.messages[begin:])


def _cuts(messages: tuple[Message, ...]) -> list[int]:
    """Where the conversation may begin, 0 included, in order: at a user message that no call reaches across."""
    inside = _inside_exchanges(messages)
    begins = [i for i, message in enumerate(messages) if i and isinstance(message, UserMessage) and not inside[i]]
    return [0, *begins]


def _inside_exchanges(messages: tuple[Message, ...]) -> list[bool]:
    """For each position, whether a call before it has a result at it or after it."""
    ends = [0] * len(messages)  # of each message, the last result of one of its calls
    calls: dict[tuple[str, str], int] = {}
    for i, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls:
                calls["id", call.id] = calls["name", call.name] = i
        elif isinstance(message, ToolMessage):
            key = ("id", message.call_id) if message.call_id else ("name", message.name)
            if key in calls:
                ends[calls[key]] = i
    inside, reach = [], 0
    for i, end in enumerate(ends):
        inside.append(reach >= i > 0)
        reach = max(reach, end)
    return inside
