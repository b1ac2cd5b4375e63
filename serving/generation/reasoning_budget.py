"""Reasoning budget of one choice: how much analysis there may be, and how many tokens stay reserved for the answer."""

from __future__ import annotations


class ReasoningBudget:
    """Budget in tokens: `most` of analysis, None without a limit; and `last_chance`, the completion's length at which
    analysis must end so that the reserve is left for an answer, None without a reserve.

    `analysis` counts the tokens of analysis so far, `written` all of the completion's.
    """

    __slots__ = ("_last_chance", "_most", "is_set")

    def __init__(self, most: int | None, last_chance: int | None) -> None:
        self._most = most
        self._last_chance = last_chance
        self.is_set = most is not None or last_chance is not None

    def tokens_left(self, analysis: int, written: int, *, header: int) -> int | None:
        """Tokens, at least 1, that may come before the budget can be spent; None without a budget.

        At least `header` of them are no analysis.
        """
        left = []
        if self._most is not None:
            left.append(header + self._most - analysis)
        if self._last_chance is not None:
            left.append(self._last_chance - written)
        return max(1, min(left)) if left else None

    def is_spent(self, analysis: int, written: int) -> bool:
        """True where analysis must end now."""
        return (self._most is not None and analysis >= self._most) or (
            self._last_chance is not None and written >= self._last_chance
        )
