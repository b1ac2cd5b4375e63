"""Separation of reasoning that a server sends in the text, between <think> and </think> at its beginning."""

from __future__ import annotations

from typing import Literal

_OPEN = "<think>"
_CLOSE = "</think>"

Channel = Literal["analysis", "final"]


class ThinkTags:
    """Splitter of one choice's text into channels, for text that arrives in pieces of any size.

    Only a tag before all other text counts: later ones are the answer's own. Blanks around the tags are dropped.
    """

    def __init__(self) -> None:
        self._held = ""
        self._at: Literal["start", "thinking", "after", "answer"] = "start"
        self._thought = False

    def feed(self, text: str) -> list[tuple[Channel, str]]:
        """Text by channel as far as it is certain; what may be half a tag is held back."""
        if self._at == "answer":
            return [("final", text)] if text else []
        self._held += text
        pieces: list[tuple[Channel, str]] = []
        if self._at == "start":
            self._start(pieces)
        if self._at == "thinking":
            self._think(pieces)
        if self._at == "after":
            self._held = self._held.lstrip()
            if self._held:
                self._answer(pieces)
        return pieces

    def finish(self) -> list[tuple[Channel, str]]:
        """Text by channel of what is held back, at the end."""
        held, self._held = self._held, ""
        if not held or self._at == "after":
            return []
        return [("analysis" if self._at == "thinking" else "final", held)]

    def _start(self, pieces: list[tuple[Channel, str]]) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._at, self._held = "thinking", begun[len(_OPEN) :]
        elif not _OPEN.startswith(begun):
            self._answer(pieces)

    def _think(self, pieces: list[tuple[Channel, str]]) -> None:
        if not self._thought:
            self._held = self._held.lstrip()
        thought, close, rest = self._held.partition(_CLOSE)
        if close:
            self._at, self._held = "after", rest
            thought = thought.rstrip()
        else:
            # Blanks wait too: before the closing tag they would be dropped.
            keep = max(n for n in range(len(_CLOSE)) if thought.endswith(_CLOSE[:n]))
            sure = thought[: len(thought) - keep].rstrip()
            thought, self._held = sure, thought[len(sure) :]
        if thought:
            self._thought = True
            pieces.append(("analysis", thought))

    def _answer(self, pieces: list[tuple[Channel, str]]) -> None:
        self._at = "answer"
        pieces.append(("final", self._held))
        self._held = ""
