"""Log probabilities as OpenAI reports them, in step with the text."""

from __future__ import annotations

from collections import deque

from serving.engine.base import TokenLogprobs
from serving.generation.types import LogprobEntry
from serving.harmony.tokenization import token_bytes


def logprob_entry(position: TokenLogprobs) -> LogprobEntry:
    """Convert one position's ids to text and bytes.

    `token` has U+FFFD where a token is not whole characters; `utf8` is exact.
    """
    utf8 = token_bytes(position.token_id)
    return LogprobEntry(
        utf8.decode("utf-8", "replace"),
        position.logprob,
        utf8,
        tuple([_alternative(token_id, logprob) for token_id, logprob in position.top]),
    )


def _alternative(token_id: int, logprob: float) -> tuple[str, float, bytes]:
    utf8 = token_bytes(token_id)
    return utf8.decode("utf-8", "replace"), logprob, utf8


class LogprobQueue:
    """Queue of entries whose token's text a stop string or half a character holds back.

    Positions count characters of one choice's text from 0: `read` is what tokens have made so far, `sent` what was
    delivered of it. An entry is due once any of its token's text was sent; one whose token is but part of a character
    is due with that character, or with the U+FFFD that stands for it where the message ends before.
    """

    __slots__ = ("_entries", "read", "sent")

    def __init__(self) -> None:
        self._entries: deque[tuple[int, LogprobEntry]] = deque()
        self.read = 0
        self.sent = 0

    def add(self, start: int, entry: LogprobEntry) -> None:
        """Queue an entry whose token was fed when `read` was `start`."""
        self._entries.append((start, entry))

    def take_due(self) -> tuple[LogprobEntry, ...]:
        """Remove and return the entries due with the text sent so far, in order."""
        due = []
        while self._entries and self._entries[0][0] < self.sent:
            due.append(self._entries.popleft()[1])
        return tuple(due)
