"""Interventions in a choice under way: where the server ends a segment, and how the completion goes on after it.

A request may hold the model to more than sampling can: a reasoning budget, a forced tool call, a schema of a body. The
rules here say after which token the server intervenes, and with what header the model goes on. The completion so far
and that header are the beginning of the next segment, an engine request whose prompt is in the prefix cache. A
constrained body begins with its segment, so the grammar sees neither header nor analysis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from serving.engine.base import Constraint
from serving.generation import constraints
from serving.generation.reasoning_budget import ReasoningBudget
from serving.generation.segment import Kind, Segment
from serving.generation.types import ChatGeneration
from serving.harmony.events import ChannelOpened, Event, Recovered, ToolCallOpened
from serving.harmony.header_tokens import call_body, call_header, call_header_prefix, final_header
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import BODY_ENDS, CHANNEL, MESSAGE, START, decode

_MOST_INTERVENTIONS = 8
"""A model that answers every header with a new one is left alone after so many."""
_SHORTEST_HEADER = 3
"""Tokens of `<|channel|>analysis<|message|>`."""


@dataclass(frozen=True, slots=True)
class Intervention:
    """Change of a completion: its first `keep` tokens stay, the server writes `forced` after them, and the model goes
    on in a segment of `kind` under `constraint`.

    `opens`: the forced tokens are a message of their own, so what comes before them has to be closed.
    """

    keep: int
    forced: list[int]
    kind: Kind
    constraint: Constraint | None = None
    opens: bool = True


class Interventions:
    """Rules of intervention for one choice.

    `max_tokens` is the completion's; the first budget cut sets `reasoning_truncated`.
    """

    __slots__ = (
        "_answer",
        "_budget",
        "_forced_tools",
        "_made",
        "_names_again",
        "_offered",
        "_plain",
        "_schemas",
        "_second_chance",
        "max_tokens",
        "reasoning_truncated",
        "segment",
    )

    def __init__(self, request: ChatGeneration, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.reasoning_truncated = False
        self.segment = Segment()
        self._forced_tools = request.forced_tools
        self._answer = request.answer
        self._second_chance = request.second_chance
        self._offered = [tool.name for tool in request.conversation.tools] if request.names_again else []
        self._names_again = bool(self._offered)
        self._schemas = {
            tool.name: constraints.of_call(tool)
            for tool in request.conversation.tools
            if tool.strict or tool.name in request.forced_tools
        }
        self._plain = dict(request.plain_calls)
        self._schemas |= self._plain
        # The reserve begins before the header that opens it.
        longest = max(len(self._header(name)) for name in (None, *self._forced_tools))
        reserve = request.min_answer_tokens
        self._budget = ReasoningBudget(
            request.max_reasoning_tokens, max_tokens - reserve - longest - 1 if reserve else None
        )
        self._made = 0

    @property
    def watches(self) -> bool:
        """True while messages must be checked as they open: tokens are then to be fed one by one."""
        return self.segment.kind == "name" or (
            self.segment.kind == "free"
            and bool(self._answer or self._forced_tools or self._schemas or self._names_again)
        )

    @property
    def is_idle(self) -> bool:
        """True while no intervention can come before the model stops, and no token has to be replaced."""
        waits = self._budget.is_set or self._answer or self._forced_tools or self._schemas or self._names_again
        return self.segment.kind == "free" and not waits

    def tokens_to_check(self, parser: HarmonyParser, tokens: Sequence[int]) -> int | None:
        """Tokens, at least 1, after which the reasoning budget must be checked; None: not in this segment."""
        if not self._budget.is_set or self.segment.kind != "free":
            return None
        if parser.open_channel != "analysis" and not parser.in_header:
            return None
        header = _SHORTEST_HEADER if not tokens or tokens[-1] in BODY_ENDS else 0
        return self._budget.tokens_left(parser.tokens_of("analysis"), len(tokens), header=header)

    def after(self, parser: HarmonyParser, tokens: Sequence[int], opened: Sequence[Event]) -> Intervention | None:
        """The intervention due after the last of `tokens`, of which `opened` came."""
        if self.segment.kind == "name":
            return self._named(tokens)
        if self.segment.kind != "free":
            return None
        for event in opened:
            if isinstance(event, ChannelOpened) and event.channel == "final":
                if self._forced_tools:
                    return self._call(_header_start(tokens))
                if self._answer is not None:
                    return self._final(_header_start(tokens))
            elif isinstance(event, Recovered) and event.kind == "tool_not_offered" and self._names_again:
                self._names_again = False
                return self._call(_header_start(tokens), names=self._forced_tools or self._offered)
            elif isinstance(event, ToolCallOpened):
                if self._forced_tools and event.name not in self._forced_tools:
                    return self._call(_header_start(tokens))
                if event.name in self._schemas:
                    return self._call(_header_start(tokens), event.name)
        if parser.open_channel == "analysis" and self._budget.is_spent(parser.tokens_of("analysis"), len(tokens)):
            intervention = self._call(len(tokens)) if self._forced_tools else self._final(len(tokens))
            if intervention is not None:
                self.reasoning_truncated = True
            return intervention
        return None

    def at_stop(
        self, parser: HarmonyParser, tokens: Sequence[int], *, called: bool, answered: bool
    ) -> Intervention | None:
        """The intervention due when the model has stopped; the last of `tokens` may be what it stopped with.

        A forced call that was not made is asked for; so is an answer of a given form and, as a second chance, any
        answer where the turn gave the user none.
        """
        if self.segment.kind != "free" or called:
            return None
        if not self._forced_tools and (answered or parser.holds_answer):
            return None
        if not self._forced_tools and self._answer is None and not self._second_chance:
            return None
        keep = len(tokens) - bool(tokens and tokens[-1] in BODY_ENDS)
        if not _is_in_body(tokens[:keep]):
            keep = _header_start(tokens[:keep])
        return self._call(keep) if self._forced_tools else self._final(keep)

    def made(self, intervention: Intervention, tokens: Sequence[int]) -> None:
        """Begin the segment after `intervention`; `tokens` are the completion's, forced ones included."""
        self._made += 1
        self.segment = Segment(intervention.kind, intervention.constraint, len(tokens))

    def _final(self, keep: int) -> Intervention | None:
        return self._checked(Intervention(keep, final_header(), "answer", self._answer))

    def _call(self, keep: int, name: str | None = None, names: Sequence[str] | None = None) -> Intervention | None:
        """Go on in a call's body: of `name`, or of one of `names` (those forced unless given) as the model says."""
        names = self._forced_tools if names is None else names
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            # The dot is left to the model, which writes it in one token with the name's beginning.
            choice = Constraint("choice", json.dumps([f".{each}" for each in names]))
            return self._checked(Intervention(keep, call_header_prefix(dot=False), "name", choice))
        schema = self._schemas.get(name, constraints.JSON_OBJECT)
        return self._checked(Intervention(keep, self._header(name), "call", schema))

    def _named(self, tokens: Sequence[int]) -> Intervention | None:
        """The function's name is complete: its body follows."""
        if tokens[-1] not in BODY_ENDS:
            return None
        name = decode(tokens[self.segment.begins : -1]).removeprefix(".")
        schema = self._schemas.get(name, constraints.JSON_OBJECT)
        body = call_body(plain=name in self._plain)
        return self._checked(Intervention(len(tokens) - 1, body, "call", schema, opens=False))

    def _checked(self, intervention: Intervention) -> Intervention | None:
        """The intervention, unless there were too many or no token would be left after it."""
        length = intervention.keep + len(intervention.forced) + 1
        return None if self._made >= _MOST_INTERVENTIONS or length >= self.max_tokens else intervention

    def _header(self, name: str | None) -> list[int]:
        return final_header() if name is None else call_header(name, plain=name in self._plain)


def _is_in_body(tokens: Sequence[int]) -> bool:
    """True where the last message in `tokens` is open and past its header."""
    for token in reversed(tokens):
        if token == MESSAGE:
            return True
        if token in BODY_ENDS or token in (START, CHANNEL):
            return False
    return False


def _header_start(tokens: Sequence[int]) -> int:
    """Where the last header in `tokens`, complete or not, begins."""
    start = len(tokens) - 1 if tokens and tokens[-1] == MESSAGE else len(tokens)
    for position in range(start - 1, -1, -1):
        token = tokens[position]
        if token in BODY_ENDS:
            return position + 1
        if token == MESSAGE:
            break  # a body that was not closed: its text is no part of the header
        if token in (START, CHANNEL):
            start = position
            if token == START:
                return start
    else:
        return 0
    return start
