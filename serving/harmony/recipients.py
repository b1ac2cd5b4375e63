"""Recipients of messages, the names after a header's `to=`: offered functions, other roles, unknown functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from serving.harmony.recovery import RecoveryKind

_NAME_BYTE = re.compile(rb"[0-9A-Za-z_.:/\-\x80-\xff]")
_NAME = re.compile(rb"[0-9A-Za-z_.:/\-\x80-\xff]*")
_NAMESPACE = b"functions."
_NAMESPACES = re.compile(rb"(?:functions?|tools?)(?:::|[.:/])")
"""Namespaces that models write for `functions.` now and then. `browser.search` is not a function `search`."""
_NOT_TOOLS = frozenset([b"", b"assistant", b"user", b"system", b"developer", b"all", b"functions", b"functions."])


class Recipients:
    """Resolver of recipients. `tools` are the functions offered; None takes any name for one.

    An offered name fits where the recipient begins with it and no character of a name follows; of several the longest.
    It is looked for after `functions.`, where the prompt shows it, then as written, then after other namespaces.
    Names with blanks can therefore only be read where tools are given.
    """

    __slots__ = ("_tools", "_with_blanks", "longest")

    def __init__(self, tools: Collection[str] | None) -> None:
        self._tools = None if tools is None else [(name.encode("utf-8", "replace"), name) for name in tools]
        self._with_blanks = [name for name, _ in self._tools or () if len(name.split()) > 1]
        self.longest = max((len(name) for name, _ in self._tools or ()), default=0)
        """Length in bytes of the longest name offered, 0 where any may come."""

    def name_end(self, text: bytes) -> int:
        """Return the end of the name at the beginning of `text`, which follows `to=`."""
        found = self._find(text)
        return found[1] if found is not None else _name_run(text)

    def may_go_on(self, text: bytes) -> bool:
        """True where `text` is an offered name with blanks so far, or that name and blanks."""
        return any(
            name.startswith(text[start:]) or (text.startswith(name, start) and not text[start + len(name) :].strip())
            for name in self._with_blanks
            for start in _starts(text)
        )

    def resolve(self, recipient: bytes) -> tuple[str | None, tuple[RecoveryKind, ...]]:
        """Return the function's name as it was offered, None for no function, and the recoveries it took."""
        if recipient in _NOT_TOOLS:
            return None, ("recipient_not_a_tool",)
        found = self._find(recipient)
        if found is not None:
            name, end = found
            return name, () if end == len(recipient) else ("header_words",)
        run = recipient[: _name_run(recipient)]
        extra: tuple[RecoveryKind, ...] = () if run == recipient else ("header_words",)
        if run in _NOT_TOOLS:
            return None, (*extra, "recipient_not_a_tool")
        if self._tools is not None:
            return None, (*extra, "tool_not_offered")
        return run.removeprefix(_NAMESPACE).decode("utf-8", "replace"), extra

    def _find(self, text: bytes) -> tuple[str, int] | None:
        """Find the offered name that `text` begins with, and its end in `text`."""
        if not self._tools:
            return None
        for start in _starts(text):
            fits = [
                (start + len(encoded), name)
                for encoded, name in self._tools
                if text.startswith(encoded, start) and not _NAME_BYTE.match(text, start + len(encoded))
            ]
            if fits:
                end, name = max(fits)
                return name, end
        return None


def _name_run(text: bytes) -> int:
    match = _NAME.match(text)
    return match.end() if match else 0


def _starts(text: bytes) -> Iterator[int]:
    """Positions where a name may begin in `text`, the likeliest first."""
    if text.startswith(_NAMESPACE):
        yield len(_NAMESPACE)
    yield 0
    match = _NAMESPACES.match(text)
    while match is not None:
        yield match.end()
        match = _NAMESPACES.match(text, match.end())
