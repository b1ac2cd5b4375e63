"""Search for stop strings in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable


class StopMatcher:
    """Matcher of stop strings: passes text up to the first one, and holds back only what may be the beginning of one.

    The stop string that is complete first wins; of several that end at the same character, the longest. The delivered
    text therefore does not depend on how the text was cut. Once `matched` is set, push nothing more; `found` says
    which of them it was.
    """

    __slots__ = ("_held", "_stops", "found", "matched")

    def __init__(self, stops: Iterable[str]) -> None:
        """Raises ValueError for an empty stop string."""
        self._stops = tuple(stops)
        if not all(self._stops):
            raise ValueError("a stop string is empty")
        self._held = ""
        self.matched = False
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Take the next piece; return what may be delivered, "" included. Sets `matched` on a match."""
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            end, begin = match
            self.matched, self.found = True, text[begin:end]
            self._held = ""
            return text[:begin]
        hold_from = min((_beginning(text, stop) for stop in self._stops), default=len(text))
        self._held = text[hold_from:]
        return text[:hold_from]

    def flush(self) -> str:
        """End the text: return what was held back, which is no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, int] | None:
        """Where the winning stop string ends and begins."""
        best: tuple[int, int] | None = None
        for stop in self._stops:
            begin = text.find(stop)
            if begin >= 0:
                match = (begin + len(stop), begin)
                best = match if best is None else min(best, match)
        return best


def _beginning(text: str, stop: str) -> int:
    """The first position from which all the rest of `text` is a beginning of `stop`; the text's length for none."""
    position = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while position >= 0:
        if stop.startswith(text[position:]):
            return position
        position = text.find(stop[0], position + 1)
    return len(text)
