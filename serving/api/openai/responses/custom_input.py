"""Input of a custom tool's call, read as it grows out of the JSON that the model writes: {"input": "..."}."""

from __future__ import annotations

import re

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_PARTS = re.compile(r'[^"\\]+|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]')
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST_HEAD = 64


class CustomInput:
    """Reader of one call's input; what is not of that form is the input as it stands.

    feed() takes more text and returns what of the input is certain; end() the rest. A text that breaks off in the
    middle gives the input so far.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._state = "plain" if plain else "head"
        self._held = ""

    def feed(self, text: str) -> str:
        """More of the input."""
        if self._state == "plain":
            return text
        if self._state == "over":
            return ""
        self._held += text
        if self._state == "head":
            head = _HEAD.match(self._held)
            if head is None:
                return "" if _may_be_head(self._held) else self._as_plain()
            self._held, self._state = self._held[head.end() :], "string"
        return self._decoded()

    def end(self) -> str:
        """The last of the input."""
        return self._as_plain() if self._state == "head" else ""

    def _as_plain(self) -> str:
        held, self._held, self._state = self._held, "", "plain"
        return held

    def _decoded(self) -> str:
        """The input in the held text, up to an escape that is not complete."""
        texts: list[str] = []
        place, held = 0, self._held
        while place < len(held):
            if held[place] == '"':
                self._state = "over"
                break
            part = _PARTS.match(held, place)
            if part is None:
                if _may_be_escape(held[place:]):
                    break
                texts.append(held[place])  # no escape of JSON's: as it stands
                place += 1
                continue
            text, end = _unescaped(part.group()), part.end()
            if "\ud800" <= text <= "\udbff":
                rest = held[end : end + 6]
                low = _PARTS.match(held, end) if len(rest) == 6 and rest.startswith("\\u") else None
                if low is None and "\\u".startswith(rest[:2]) and _may_be_escape(rest or "\\"):
                    break  # its other half may follow
                if low is not None and "\udc00" <= (second := _unescaped(low.group())) <= "\udfff":
                    text, end = (text + second).encode("utf-16", "surrogatepass").decode("utf-16"), low.end()
            texts.append(text)
            place = end
        self._held = held[place:]
        return "".join(texts).encode("utf-8", "replace").decode()


def _may_be_head(text: str) -> bool:
    return len(text) < _LONGEST_HEAD and '{"input":"'.startswith("".join(text.split()))


def _may_be_escape(text: str) -> bool:
    return len(text) < 6 and re.fullmatch(r"\\(?:u[0-9a-fA-F]{0,3})?", text) is not None


def _unescaped(part: str) -> str:
    if not part.startswith("\\"):
        return part
    return chr(int(part[2:], 16)) if part[1] == "u" else _ESCAPES.get(part[1], part[1])
