"""A team's policy for one request: models, reasoning, output. Functions of settings, without state."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from serving.effort import Effort, lower_effort, resolve_effort
from serving.engine.base import EngineInfo
from serving.errors import InvalidValueError, PermissionDeniedError
from serving.generation.types import ChatGeneration
from serving.settings.reasoning import ReasoningSettings
from serving.settings.recovery import RecoverySettings
from serving.settings.teams import Team


class Filled(Protocol):
    """Admission queue, as far as a policy looks at it."""

    @property
    def fill(self) -> float:
        """Requests waiting as a part of the most that may wait, 0 to 1."""
        ...


def restricted_reasoning(reasoning: ReasoningSettings, team: Team) -> ReasoningSettings:
    """The model's reasoning settings, lowered to what the team may have."""
    if team.highest_effort == "high" and team.default_effort is None and team.max_reasoning_tokens is None:
        return reasoning
    changes: dict[str, object] = {}
    highest = lower_effort(reasoning.highest_effort, team.highest_effort)
    if highest != reasoning.highest_effort:
        changes["highest_effort"] = highest
    default = lower_effort(team.default_effort or reasoning.default_effort, highest)
    if default != reasoning.default_effort:
        changes["default_effort"] = default
    if team.max_reasoning_tokens is not None:
        most = team.max_reasoning_tokens
        if reasoning.highest_max_reasoning_tokens is not None:
            most = min(most, reasoning.highest_max_reasoning_tokens)
        changes["highest_max_reasoning_tokens"] = most
    return reasoning.model_copy(update=changes) if changes else reasoning


def reasoning_under_load(reasoning: ReasoningSettings, team: Team, queue: Filled) -> ReasoningSettings:
    """Reasoning settings, lowered to what the team may have while `queue` is as full as it is."""
    under_load = team.effort_under_load
    if under_load.medium_above is None and under_load.low_above is None:
        return reasoning
    most = under_load.most(queue.fill)
    if most == "high" or (highest := lower_effort(reasoning.highest_effort, most)) == reasoning.highest_effort:
        return reasoning
    return reasoning.model_copy(
        update={
            "highest_effort": highest,
            "default_effort": lower_effort(reasoning.default_effort, highest),
            # An effort that the team may ask for at other times is no mistake now.
            "unsupported_effort": "clamp",
        }
    )


def effort_within(reasoning: ReasoningSettings, asked: str | None) -> Effort:
    """The effort that a request for `asked` gets, clamped to the settings."""
    return resolve_effort(asked, reasoning.default_effort, "clamp", highest=reasoning.highest_effort)


def restricted_generation(
    generation: ChatGeneration, team: Team, *, max_messages: int, recovery: RecoverySettings
) -> ChatGeneration:
    """`generation` as the team may have it, with the server's second chances.

    Raises InvalidValueError for more output or messages than allowed.
    """
    if (messages := len(generation.conversation.messages)) > max_messages:
        raise InvalidValueError(
            f"The conversation has {messages} messages, and this server reads at most {max_messages}.",
            param="messages",
        )
    if team.max_output is not None:
        check_output(team, generation.max_tokens)
    if not team.show_reasoning and generation.include_reasoning:
        generation = replace(generation, include_reasoning=False)
    if not recovery.retry or recovery.unoffered_calls == "retry":
        generation = replace(generation, second_chance=recovery.retry, names_again=recovery.unoffered_calls == "retry")
    return generation


def check_output(team: Team, max_tokens: int | None) -> None:
    """Raise InvalidValueError where a request asks for more output than its team may have."""
    if team.max_output is not None and max_tokens is not None and max_tokens > team.max_output:
        raise InvalidValueError(
            f"Your team may ask for at most {team.max_output} tokens; the request asks for {max_tokens}.",
            param="max_tokens",
        )


def check_raw_prompts(team: Team) -> None:
    """Raise PermissionDeniedError for a team whose reasoning is limited.

    The tokens of a raw prompt set the effort, and a raw completion contains every channel.
    """
    if not team.show_reasoning or team.highest_effort != "high" or team.max_reasoning_tokens is not None:
        raise PermissionDeniedError(
            "Your team may not complete raw prompts, because its reasoning is limited. Use /v1/chat/completions."
        )


def restricted_info(info: EngineInfo, team: Team) -> EngineInfo:
    """An engine's description, with no more context and output than the team may have."""
    if team.max_context is not None and team.max_context < info.max_model_len:
        info = replace(info, max_model_len=team.max_context)
    if team.max_output is not None:
        info = replace(info, max_output_tokens=team.max_output)
    return info
