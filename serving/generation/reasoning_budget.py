"""Reasoning budget of one choice: how much analysis there may be, and how many tokens stay reserved for the answer."""

from __future__ import annotations

from collections.abc import Sequence

from serving.harmony.parser import HarmonyParser
from serving.harmony.vocabulary import BODY_ENDS

_SHORTEST_HEADER = 3
"""Tokens of `<|channel|>analysis<|message|>`."""


class ReasoningBudget:
    """Budget in tokens: `most` of analysis, None without a limit; and `last_chance`, the completion's length at which
    analysis must end so that the reserve is left for an answer, None without a reserve.
    """

    __slots__ = ("_last_chance", "_most")

    def __init__(self, most: int | None, last_chance: int | None) -> None:
        self._most = most
        self._last_chance = last_chance

    def tokens_left(self, parser: HarmonyParser, tokens: Sequence[int]) -> int | None:
        """Tokens, at least 1, that may come before the budget can be spent; None where it cannot be."""
        if self._most is None and self._last_chance is None:
            return None
        if parser.open_channel != "analysis" and not parser.in_header:
            return None
        left = []
        if self._most is not None:
            header = _SHORTEST_HEADER if not tokens or tokens[-1] in BODY_ENDS else 0
            left.append(header + self._most - parser.tokens_of("analysis"))
        if self._last_chance is not None:
            left.append(self._last_chance - len(tokens))
        return max(1, min(left))

    def is_spent(self, parser: HarmonyParser, written: int) -> bool:
        """True where the analysis being read must end after `written` tokens of the completion."""
        return parser.open_channel == "analysis" and (
            (self._most is not None and parser.tokens_of("analysis") >= self._most)
            or (self._last_chance is not None and written >= self._last_chance)
        )
