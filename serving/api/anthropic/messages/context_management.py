"""Edits of a conversation's context that a Messages request asks for: old thoughts and old tool results are cleared.

Source: Anthropic's reference of context editing. Edits change the conversation before it is rendered; the tokens that
they clear are those of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo
from typing_extensions import TypedDict

from serving.api.wire.base_model import WireModel, unsupported
from serving.api.wire.reading import Reading
from serving.harmony.conversation import AssistantMessage, Conversation, Message, ToolMessage
from serving.harmony.tokenization import render_prompt

_CLEARED = "[Old result of this call, cleared to save room]"


class ThinkingTurns(WireModel):
    """Assistant turns whose thoughts stay, the latest first."""

    type: Literal["thinking_turns", "all"]
    value: int | None = Field(None, ge=1)


class ToolUses(WireModel):
    """A number of calls."""

    type: Literal["tool_uses"]
    value: int = Field(ge=0)


class ContextTokens(WireModel):
    """A number of the prompt's tokens."""

    type: Literal["input_tokens"]
    value: int = Field(ge=0)


class EditTrigger(WireModel):
    """Number of calls or of the prompt's tokens above which an edit is made."""

    type: Literal["input_tokens", "tool_uses"]
    value: int = Field(ge=0)


def _spelled_out(value: Any) -> Any:
    return {"type": "all"} if value == "all" else value


class ClearThinking(WireModel):
    """Thoughts of old turns are left out. gpt-oss is never shown those from before the last answer."""

    type: Literal["clear_thinking_20251015"]
    keep: Annotated[ThinkingTurns, BeforeValidator(_spelled_out)] = ThinkingTurns(type="thinking_turns", value=1)


class ClearToolUses(WireModel):
    """Results of old calls give way to a few words; with clear_tool_inputs the calls' arguments too."""

    type: Literal["clear_tool_uses_20250919"]
    trigger: EditTrigger = EditTrigger(type="input_tokens", value=100_000)
    keep: ToolUses = ToolUses(type="tool_uses", value=3)
    clear_at_least: ContextTokens | None = None
    exclude_tools: list[str] | None = None
    clear_tool_inputs: bool | list[str] | None = None


_KNOWN = ("clear_thinking_20251015", "clear_tool_uses_20250919")


def _known_edits(value: Any, info: ValidationInfo) -> Any:
    """Edits that are made here; others save room and change no more, so that they are ignored as unknown fields are."""
    if not isinstance(value, list):
        return value
    reading: Reading | None = info.context
    kept = []
    for i, edit in enumerate(value):
        kind = edit.get("type") if isinstance(edit, dict) else None
        if not isinstance(kind, str) or kind in _KNOWN:
            kept.append(edit)
        elif reading is None or reading.strict:
            raise unsupported(f"Edits are: {', '.join(_KNOWN)}.", at=f"[{i}]")
        else:
            reading.ignore_field(ContextManagement, f"edits.{kind}")
    return kept


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind is not None else None


class ContextManagement(WireModel):
    """Edits, made in this order."""

    edits: Annotated[
        list[
            Annotated[
                Annotated[ClearThinking, Tag("<clear_thinking_20251015>")]
                | Annotated[ClearToolUses, Tag("<clear_tool_uses_20250919>")],
                Discriminator(_kind, custom_error_type="expected", custom_error_message="an object with a type"),
            ]
        ]
        | None,
        BeforeValidator(_known_edits),
    ] = None


class ClearedThinking(TypedDict):
    """Thoughts that were cleared."""

    type: Literal["clear_thinking_20251015"]
    cleared_thinking_turns: int
    cleared_input_tokens: int


class ClearedToolUses(TypedDict):
    """Results that were cleared."""

    type: Literal["clear_tool_uses_20250919"]
    cleared_tool_uses: int
    cleared_input_tokens: int


AppliedEdit = ClearedThinking | ClearedToolUses


@dataclass(frozen=True, slots=True)
class EditedContext:
    """Conversation after its edits, and those that changed something."""

    conversation: Conversation
    applied: Sequence[AppliedEdit]


def edited(conversation: Conversation, management: ContextManagement) -> EditedContext:
    """Make the edits. Renders the prompt for each that may change it; raises as render_prompt does."""
    applied: list[AppliedEdit] = []
    for edit in management.edits or ():
        made = _clear_thinking(conversation, edit) if isinstance(edit, ClearThinking) else _clear(conversation, edit)
        if made is not None:
            conversation, change = made
            applied.append(change)
    return EditedContext(conversation, applied)


def _clear_thinking(conversation: Conversation, edit: ClearThinking) -> tuple[Conversation, AppliedEdit] | None:
    messages = list(conversation.messages)
    turns = [(i, each) for i, each in enumerate(messages) if isinstance(each, AssistantMessage) and each.reasoning]
    old = [] if edit.keep.type == "all" else turns[: -(edit.keep.value or 1)]
    if not old:
        return None
    for i, turn in old:
        messages[i] = replace(turn, reasoning=None)
    after = replace(conversation, messages=tuple(messages))
    change = ClearedThinking(
        type="clear_thinking_20251015",
        cleared_thinking_turns=len(old),
        cleared_input_tokens=_tokens(conversation) - _tokens(after),
    )
    return after, change


def _clear(conversation: Conversation, edit: ClearToolUses) -> tuple[Conversation, AppliedEdit] | None:
    results = [i for i, each in enumerate(conversation.messages) if isinstance(each, ToolMessage)]
    excluded = frozenset(edit.exclude_tools or ())
    old = [i for i in results[: len(results) - edit.keep.value] if _may_clear(conversation.messages[i], excluded)]
    if not old or (edit.trigger.type == "tool_uses" and len(results) <= edit.trigger.value):
        return None
    before = _tokens(conversation)
    if edit.trigger.type == "input_tokens" and before <= edit.trigger.value:
        return None
    after = replace(conversation, messages=_without_results(conversation.messages, frozenset(old), edit))
    cleared = before - _tokens(after)
    if edit.clear_at_least is not None and cleared < edit.clear_at_least.value:
        return None
    change = ClearedToolUses(type="clear_tool_uses_20250919", cleared_tool_uses=len(old), cleared_input_tokens=cleared)
    return after, change


def _may_clear(message: Message, excluded: frozenset[str]) -> bool:
    return isinstance(message, ToolMessage) and message.name not in excluded and message.content != _CLEARED


def _without_results(messages: Sequence[Message], old: frozenset[int], edit: ClearToolUses) -> tuple[Message, ...]:
    inputs = edit.clear_tool_inputs
    results = [each for i, each in enumerate(messages) if i in old and isinstance(each, ToolMessage)]
    calls = {each.call_id for each in results if inputs is True or (isinstance(inputs, list) and each.name in inputs)}
    return tuple(_cleared(message, i in old, calls) for i, message in enumerate(messages))


def _cleared(message: Message, is_old: bool, calls: set[str]) -> Message:
    if isinstance(message, ToolMessage) and is_old:
        return replace(message, content=_CLEARED)
    if isinstance(message, AssistantMessage) and any(call.id in calls for call in message.tool_calls):
        return replace(
            message,
            tool_calls=tuple(
                replace(call, arguments="{}") if call.id in calls else call for call in message.tool_calls
            ),
        )
    return message


def _tokens(conversation: Conversation) -> int:
    return len(render_prompt(conversation))
