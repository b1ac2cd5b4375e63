"""Earlier messages in a prompt: which were answers, which keep their reasoning, and the place of each result."""

from __future__ import annotations

from collections.abc import Sequence

from serving.harmony.conversation import AssistantMessage, Message, ToolMessage, UserMessage


def is_answer(messages: Sequence[Message], index: int) -> bool:
    """True where the message's content ended a turn, and so belongs on the final channel.

    Content beside calls, or in a message of its own right before them, was said before calling: a preamble.
    """
    message = messages[index]
    if not isinstance(message, AssistantMessage) or not message.content or message.tool_calls:
        return False
    following = messages[index + 1] if index + 1 < len(messages) else None
    return not (isinstance(following, AssistantMessage) and following.tool_calls)


def first_fresh(messages: Sequence[Message]) -> int:
    """Index from which reasoning is kept: after the last answer or user message, whichever is later.

    While a tool loop runs the model needs the thoughts that led to its calls; an answer makes them old (the harmony
    guide and gpt-oss's chat template), and so does a new question (OpenAI's API).
    """
    for index in range(len(messages) - 1, -1, -1):
        if isinstance(messages[index], UserMessage) or is_answer(messages, index):
            return index + 1
    return 0


def results_by_call(messages: Sequence[Message]) -> dict[tuple[int, int], tuple[int, ToolMessage]]:
    """Match results with calls: each with its index, by the assistant message's index and the call's number in it.

    Harmony has no ids: a result stands for the call right before it. A model never makes two calls without a result
    between them, so those that came in parallel, or whose results came in another order, are shown one by one. An id
    that is used again means the latest call.
    """
    results: dict[tuple[int, int], tuple[int, ToolMessage]] = {}
    waiting: dict[str, tuple[int, int]] = {}
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            call = waiting.pop(message.call_id, None)
            if call is not None:
                results[call] = index, message
        elif isinstance(message, AssistantMessage):
            waiting.update({call.id: (index, number) for number, call in enumerate(message.tool_calls) if call.id})
    return results
