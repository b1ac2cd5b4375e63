"""Segment of a choice's continuation: the part of a completion that one engine request makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.engine.base import Constraint
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
)

Kind = Literal["free", "answer", "call", "name"]

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
class Segment:
    """One engine request of a choice.

    "free": the model decides all. "answer" and "call": the body of a final message or of a call, which ends the choice.
    "name": a call's header up to its function's name. `begins` counts the completion's tokens before the segment.
    """

    kind: Kind = "free"
    constraint: Constraint | None = None
    begins: int = 0

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end the segment."""
        return _STOPS[self.kind]

    @property
    def logit_bias(self) -> dict[int, float]:
        """Bias against structure in a body that ends the choice."""
        return _BIASES[self.kind]
