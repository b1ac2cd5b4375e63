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
_CONTENT_TYPES = (b"json", b"code", b"text")
_WRAPPERS = b" \t\r\n\"'`:;,.*()[]{}<>|=\\"
_NAMESPACES_SPELT = re.compile(rb"(?:(?:functions?|tools?)(?:::|->|[.:/_\s-])\s*)+", re.IGNORECASE)
_TYPE_SO_FAR = re.compile(rb"\s*|\s+(?:json|code|text)\s*")
_NAMESPACE_GLUED = re.compile(rb"^functions?", re.IGNORECASE)
_MOST_WRONG = 2
_NOT_TOOLS = frozenset([b"", b"assistant", b"user", b"system", b"developer", b"all", b"functions", b"functions."])


class Recipients:
    """Resolver of recipients. `tools` are the functions offered; None takes any name for one.

    An offered name fits where the recipient begins with it and no character of a name follows; of several the longest.
    It is looked for after `functions.`, where the prompt shows it, then as written, then after other namespaces.
    Names with blanks can therefore only be read where tools are given. A name that is none of those offered is read as
    the one that it is nearest to, where no other is near: with a content type glued to it, in quotes, in other cases,
    with other marks between its words, or with up to two letters wrong.
    """

    __slots__ = ("_plain", "_tools", "_with_blanks", "longest")

    def __init__(self, tools: Collection[str] | None) -> None:
        self._tools = None if tools is None else [(name.encode("utf-8", "replace"), name) for name in tools]
        self._plain = {name: _letters(name) for name in tools or ()}
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
        near = self.nearest(recipient)
        if near is not None:
            return near, ("recipient_guessed",)
        if run in _NOT_TOOLS or recipient.strip(_WRAPPERS) in _NOT_TOOLS:
            return None, (*extra, "recipient_not_a_tool")
        if self._tools is not None:
            return None, (*extra, "tool_not_offered")
        return run.removeprefix(_NAMESPACE).decode("utf-8", "replace"), extra

    def may_begin(self, text: bytes) -> bool:
        """True where `text` is the beginning of an offered name, with its namespace or without, or all of it."""
        return any(
            spelt.startswith(text) or (text.startswith(spelt) and _TYPE_SO_FAR.fullmatch(text, len(spelt)))
            for name, _ in self._tools or ()
            for spelt in (_NAMESPACE + name, name)
        )

    @property
    def only(self) -> str | None:
        """The one function that is offered; None where there are several, none, or any may come."""
        return self._tools[0][1] if self._tools is not None and len(self._tools) == 1 else None

    def named(self, word: bytes) -> str | None:
        """The offered function that a word of a header without `to=` names as it was offered, None for none.

        `json`, `code` and `text` are content types there, also where a function has such a name.
        """
        bare = word.strip(_WRAPPERS)
        if not bare or bare.lower() in _CONTENT_TYPES or bare in _NOT_TOOLS:
            return None
        found = self._find(bare)
        if found is not None and found[1] == len(bare):
            return found[0]
        return self.nearest(bare) if bare.lower().startswith(b"function") or found is not None else None

    def nearest(self, recipient: bytes) -> str | None:
        """The one offered function that `recipient` can be a misspelling of; None where there is none, or several."""
        if not self._tools:
            return None
        whole = recipient.strip(_WRAPPERS)
        whole = whole[max(0, whole.rfind(_NAMESPACE)) :]
        match = _NAMESPACES_SPELT.match(whole)
        text = whole[match.end() :].strip(_WRAPPERS) if match else whole
        if (opening := text.find(b"(")) > 0:
            text = text[:opening]
        if not text:
            return None
        types = [text[: -len(each)] for each in _CONTENT_TYPES if text.lower().endswith(each)]
        candidates = [text, whole, _NAMESPACE_GLUED.sub(b"", whole), *types]
        for candidate in candidates:
            plain = _letters(candidate.decode("utf-8", "replace"))
            same = [name for name, letters in self._plain.items() if letters == plain] if plain else []
            if same:
                return same[0] if len(same) == 1 else None
        plain = _letters(text.decode("utf-8", "replace"))
        near = [name for name, letters in self._plain.items() if _is_near(plain, letters)]
        return near[0] if len(near) == 1 else None

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


def _letters(name: str) -> str:
    """Letters and digits of a name in small letters: what stays the same however its words are joined."""
    return "".join(filter(str.isalnum, name.casefold()))


def _is_near(given: str, name: str) -> bool:
    """Whether `given` may be `name` with one letter in five wrong, two at most; digits tell functions apart."""
    most = min(_MOST_WRONG, len(name) // 5)
    return (
        most > 0
        and abs(len(given) - len(name)) <= most
        and list(filter(str.isdigit, given)) == list(filter(str.isdigit, name))
        and distance(given, name) <= most
    )


def distance(one: str, other: str) -> int:
    """Letters to add, drop or change to make `other` of `one` (Levenshtein)."""
    row = list(range(len(other) + 1))
    for line, letter in enumerate(one, start=1):
        above, row = row, [line]
        for column, wanted in enumerate(other, start=1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != wanted)))
    return row[-1]


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
