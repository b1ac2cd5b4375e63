"""Harmony's channels as data: one row a channel, read by everything that names, counts or stores one.

A new channel is a row of ROWS and its name in a Literal here. The parser, the APIs' fields, usage, metrics and the
answer cache follow; a SQLite file of usage gets the column when it is next opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ThoughtChannel = Literal["analysis"]
"""Channels that the APIs show as reasoning, and hide where a request hides reasoning."""
SpokenChannel = Literal["commentary", "final"]
"""Channels of messages to the user."""
Channel = ThoughtChannel | SpokenChannel
"""Channels of text, by the names in Harmony's headers."""


@dataclass(frozen=True, slots=True)
class TextRow:
    """One channel of text.

    `field` is its name in chat's messages and deltas, `tokens` that of its count in kept answers and in the usage of
    teams. `name` is Harmony's, and the label in metrics.
    """

    name: Channel
    field: str
    tokens: str


ROWS = (
    TextRow("analysis", "reasoning", "reasoning_tokens"),
    TextRow("commentary", "commentary", "commentary_tokens"),
    TextRow("final", "content", "final_tokens"),
)

CHANNELS: tuple[Channel, ...] = tuple(row.name for row in ROWS)
FIELDS: dict[Channel, str] = {row.name: row.field for row in ROWS}
"""The chat field of each channel."""

TOOL = "tool"
"""Counts the arguments of calls, whatever channel a call was made on; the usage of teams has no column for it."""
COUNTED = (*CHANNELS, TOOL)
"""What TokenCounts has a count of, in order."""
TOKEN_FIELDS: dict[str, str] = {**{row.name: row.tokens for row in ROWS}, TOOL: "tool_tokens"}
"""Names of the counts where they are stored one by one."""
USAGE_COLUMNS: dict[str, str] = {row.name: row.tokens for row in ROWS}
"""The columns of teams' usage."""

_ZEROS = dict.fromkeys(COUNTED, 0)


class TokenCounts(dict[str, int]):
    """Body tokens by channel, and those of calls' arguments under TOOL; every key of COUNTED is there."""

    __slots__ = ()

    def __init__(self, **counts: int) -> None:
        super().__init__(_ZEROS, **counts)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.values())

    def add(self, other: TokenCounts) -> None:
        """Count the other's too."""
        for name, tokens in other.items():
            self[name] += tokens

    @classmethod
    def summed(cls, counts: Iterable[TokenCounts]) -> TokenCounts:
        """The sum of all, a value of its own."""
        total = cls()
        for each in counts:
            total.add(each)
        return total
