"""Where a completion is left and made to go on otherwise.

A request may hold the model to more than sampling can: a budget of reasoning, a call that must be made, a body that
must match a schema. The rules here say after which token that takes a hand, and with what header the model goes on.
The completion so far and that header then become the beginning of the next leg, a new engine request whose prompt is
in the prefix cache. A constrained body begins with its leg, so the grammar sees neither header nor analysis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serving.engine.base import Constraint
from serving.generation.types import ChatGeneration
from serving.harmony.events import ChannelOpened, Event, ToolCallOpened
from serving.harmony.header_tokens import call_header, call_header_prefix, final_header, word
from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    ENDOFTEXT,
    MESSAGE,
    RETURN,
    START,
    STARTOFTEXT,
    STOP_TOKEN_IDS,
    decode,
)

Kind = Literal["free", "answer", "call", "name"]

_ENDS = frozenset([END, RETURN, CALL, ENDOFTEXT])
_JSON_OBJECT = Constraint("json_object")
_MOST_DETOURS = 8
"""A model that answers every header with a new one is left alone after so many."""

_SHORTEST_HEADER = 3
"""Tokens of `<|channel|>analysis<|message|>`."""

_STOPS: dict[Kind, tuple[int, ...]] = {
    "free": STOP_TOKEN_IDS,
    "answer": (RETURN, END),
    "call": (CALL, RETURN),
    "name": (RETURN,),
}
_STRUCTURE = (STARTOFTEXT, ENDOFTEXT, CONSTRAIN, CHANNEL, START, MESSAGE, END, CALL, RETURN)
# A body that ends the choice has no structure in it. A grammar does not see to that: to xgrammar a special token is the
# text that spells it, which any string may contain.
_BIASES: dict[Kind, dict[int, float]] = {
    kind: {} if kind == "free" else {token: -100.0 for token in _STRUCTURE if token not in stops}
    for kind, stops in _STOPS.items()
}


@dataclass(frozen=True, slots=True)
class Leg:
    """One engine request of a choice.

    "free": the model decides all. "answer" and "call": the body of a final message or of a call, which ends the choice.
    "name": a call's header up to its function's name. `begins` counts the completion's tokens before the leg.
    """

    kind: Kind = "free"
    constraint: Constraint | None = None
    begins: int = 0

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end the leg."""
        return _STOPS[self.kind]

    @property
    def logit_bias(self) -> dict[int, float]:
        """What keeps structure out of a body that ends the choice."""
        return _BIASES[self.kind]


@dataclass(frozen=True, slots=True)
class Detour:
    """The first `keep` tokens stay, `forced` come after them, and the leg goes on as `kind` under `constraint`.

    `opens`: the forced tokens are a message of their own, so what comes before them has to be closed.
    """

    keep: int
    forced: list[int]
    kind: Kind
    constraint: Constraint | None = None
    opens: bool = True


class Steering:
    """The rules for one choice. `max_tokens` is the completion's; the first budget cut sets `reasoning_truncated`."""

    __slots__ = (
        "_answer",
        "_budget",
        "_detours",
        "_forced_tools",
        "_last_chance",
        "_schemas",
        "leg",
        "max_tokens",
        "reasoning_truncated",
    )

    def __init__(self, request: ChatGeneration, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.reasoning_truncated = False
        self.leg = Leg()
        self._budget = request.max_reasoning_tokens
        self._forced_tools = request.forced_tools
        self._answer = request.answer
        self._schemas = {
            tool.name: _JSON_OBJECT
            if tool.parameters is None or not tool.strict
            else Constraint("json_schema", json.dumps(tool.parameters))
            for tool in request.conversation.tools
            if tool.strict or tool.name in request.forced_tools
        }
        # Where the reserve begins, the header that opens it included; None: no reserve.
        longest = max(len(self._header(name)) for name in (None, *self._forced_tools))
        self._last_chance = max_tokens - request.min_answer_tokens - longest - 1 if request.min_answer_tokens else None
        self._detours = 0

    @property
    def watches(self) -> bool:
        """True while messages must be looked at as they open: tokens are then to be fed one by one."""
        return self.leg.kind == "name" or (
            self.leg.kind == "free" and bool(self._answer or self._forced_tools or self._schemas)
        )

    def room(self, parser: HarmonyParser, tokens: Sequence[int]) -> int | None:
        """Tokens, at least 1, that may come before a budget can be reached; None: no budget can be."""
        if self.leg.kind != "free" or (self._budget is None and self._last_chance is None):
            return None
        if parser.open_channel != "analysis" and not parser.in_header:
            return None
        rooms = []
        if self._budget is not None:
            header = _SHORTEST_HEADER if not tokens or tokens[-1] in _ENDS else 0
            rooms.append(header + self._budget - parser.tokens["analysis"])
        if self._last_chance is not None:
            rooms.append(self._last_chance - len(tokens))
        return max(1, min(rooms))

    def after(self, parser: HarmonyParser, tokens: Sequence[int], opened: Sequence[Event]) -> Detour | None:
        """What to do after the last of `tokens`, of which `opened` came."""
        if self.leg.kind == "name":
            return self._named(tokens)
        if self.leg.kind != "free":
            return None
        for event in opened:
            if isinstance(event, ChannelOpened) and event.channel == "final":
                if self._forced_tools:
                    return self._call(_header_start(tokens))
                if self._answer is not None:
                    return self._final(_header_start(tokens))
            elif isinstance(event, ToolCallOpened):
                if self._forced_tools and event.name not in self._forced_tools:
                    return self._call(_header_start(tokens))
                if event.name in self._schemas:
                    return self._call(_header_start(tokens), event.name)
        if parser.open_channel == "analysis" and self._is_spent(parser, len(tokens)):
            detour = self._call(len(tokens)) if self._forced_tools else self._final(len(tokens))
            if detour is not None:
                self.reasoning_truncated = True
            return detour
        return None

    def at_stop(self, parser: HarmonyParser, tokens: Sequence[int], *, called: bool, answered: bool) -> Detour | None:
        """What to do when the model has stopped; the last of `tokens` may be what it stopped with.

        A call that must be made and was not is asked for; so is an answer where there was nothing but analysis.
        """
        if self.leg.kind != "free" or called:
            return None
        if not self._forced_tools and answered:
            return None
        keep = len(tokens) - bool(tokens and tokens[-1] in _ENDS)
        if not _is_in_body(tokens[:keep]):
            keep = _header_start(tokens[:keep])
        return self._call(keep) if self._forced_tools else self._final(keep)

    def take(self, detour: Detour, tokens: Sequence[int]) -> None:
        """The detour is taken; `tokens` are the completion's, forced ones included."""
        self._detours += 1
        self.leg = Leg(detour.kind, detour.constraint, len(tokens))

    def _is_spent(self, parser: HarmonyParser, written: int) -> bool:
        return (self._budget is not None and parser.tokens["analysis"] >= self._budget) or (
            self._last_chance is not None and written >= self._last_chance
        )

    def _final(self, keep: int) -> Detour | None:
        return self._checked(Detour(keep, final_header(), "answer", self._answer))

    def _call(self, keep: int, name: str | None = None) -> Detour | None:
        """Go on in a call's body: of `name`, of the one that is forced, or of the one the model then names."""
        if name is None and len(self._forced_tools) == 1:
            name = self._forced_tools[0]
        if name is None:
            # The dot is left to the model, which writes it in one token with the name's beginning.
            names = Constraint("choice", json.dumps([f".{name}" for name in self._forced_tools]))
            return self._checked(Detour(keep, call_header_prefix(dot=False), "name", names))
        return self._checked(Detour(keep, call_header(name), "call", self._schemas[name]))

    def _named(self, tokens: Sequence[int]) -> Detour | None:
        """The function's name is complete: its body follows."""
        if tokens[-1] not in _ENDS:
            return None
        name = decode(tokens[self.leg.begins : -1]).removeprefix(".")
        rest = [*word(" "), CONSTRAIN, *word("json"), MESSAGE]
        return self._checked(Detour(len(tokens) - 1, rest, "call", self._schemas.get(name, _JSON_OBJECT), opens=False))

    def _checked(self, detour: Detour) -> Detour | None:
        """The detour, unless there were too many or no token would be left after it."""
        if self._detours >= _MOST_DETOURS or detour.keep + len(detour.forced) + 1 >= self.max_tokens:
            return None
        return detour

    @staticmethod
    def _header(name: str | None) -> list[int]:
        return final_header() if name is None else call_header(name)


def _is_in_body(tokens: Sequence[int]) -> bool:
    """True where the last message in `tokens` is open and past its header."""
    for token in reversed(tokens):
        if token == MESSAGE:
            return True
        if token in _ENDS or token in (START, CHANNEL):
            return False
    return False


def _header_start(tokens: Sequence[int]) -> int:
    """Where the last header in `tokens`, complete or not, begins."""
    start = len(tokens) - 1 if tokens and tokens[-1] == MESSAGE else len(tokens)
    for position in range(start - 1, -1, -1):
        token = tokens[position]
        if token in _ENDS:
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
