"""Compaction of a conversation: its user messages, and a summary of all of it that the model writes, encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from serving.answering.deadline import within
from serving.answering.request_context import RequestContext
from serving.api.openai.responses.input import StoredItem
from serving.api.openai.responses.mapping import in_our_words
from serving.api.openai.responses.output import item_id
from serving.api.openai.responses.preparing import Preparer
from serving.api.openai.responses.request import CompactRequest
from serving.api.openai.responses.response import CompactedResponse, CompactionOutput
from serving.api.openai.responses.usage import shown_usage
from serving.errors import ApiError, EngineDiedError
from serving.generation.answer import AnswerBuilder
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import UserMessage

_ASK = (
    "Write a summary of this conversation so far, which will replace it: you go on from the summary and the user's own "
    "messages, and nothing else of it. State what the user wants, with constraints and preferences; what was done, "
    "with names of files, commands, values and results that are still needed; decisions and their reasons; and what is "
    "left to do. Write the summary alone."
)
_KEPT_CHARACTERS = 80_000
"""Of messages that stay; the newest go first. About 20,000 tokens, as Codex keeps."""


async def compacted(
    preparer: Preparer, asker: RequestContext, asked: CompactRequest, longest_s: float
) -> CompactedResponse:
    """The compacted form of the conversation in `asked`. Raises the generation's errors."""
    prepared, generation, answerer = await preparer.compaction(asker, asked, _asking)
    answer = AnswerBuilder(generation)
    try:
        async with within(longest_s), aclosing(answerer.answer(generation, streaming=False)) as events:
            async for event in events:
                answer.add(event)
    except ApiError as error:
        raise in_our_words(error) from error
    made = answer.answer()
    asker.recording.answered(made)
    choice = made.choices[0]
    # An answer that a limit cut within the analysis has nothing else.
    summary = choice.content or choice.commentary or choice.reasoning
    if not summary:
        raise EngineDiedError("The model wrote no summary. Ask again.")
    assert prepared.seal is not None, "a compaction is sealed"
    items = [*prepared.earlier.items, *prepared.new]
    compaction = CompactionOutput(
        id=item_id("compaction", prepared.token, len(items)),
        type="compaction",
        encrypted_content=prepared.seal.compacting.close(summary),
    )
    return CompactedResponse(
        id=f"resp_{prepared.token}",
        object="response.compaction",
        created_at=int(prepared.created_at),
        output=[*_kept(items), compaction],
        usage=shown_usage(made.usage),
    )


def _asking(generation: ChatGeneration) -> ChatGeneration:
    """`generation` with the request for a summary at its end; the oldest turns give way where all do not fit."""
    conversation = generation.conversation
    messages = (*conversation.messages, UserMessage(_ASK))
    # Tools that are not shown are not called.
    conversation = replace(conversation, messages=messages, tools=(), response_format=None)
    return replace(generation, conversation=conversation, forced_tools=(), plain_calls=(), answer=None, truncate=True)


def _kept(items: Sequence[StoredItem]) -> list[dict[str, Any]]:
    """Messages that stay: those of user, system and developer, the newest of them."""
    kept: list[dict[str, Any]] = []
    characters = 0
    for item in reversed(items):
        if item["type"] == "message" and item["role"] != "assistant":
            characters += sum(len(part["text"]) for part in item["content"])
            if kept and characters > _KEPT_CHARACTERS:
                break
            kept.append(item)
    return kept[::-1]
