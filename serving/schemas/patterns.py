"""Regular expressions of schemas: read as ECMA 262 and Python's `re` agree on them.

`pattern` is ECMA's by the standard, and jsonschema matches it by `re`. What only one of the two knows, or both read
differently, is refused. Classes such as `\\w`, which differ in characters outside of ASCII, have two readings: the
characters that match in both dialects, and those that match in either; the negation of one needs the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serving.schemas.grammar import LAST, Chars, Ranges, complement, union

_ASCII_DIGITS: Ranges = ((0x30, 0x39),)
_ASCII_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_ASCII_BLANKS: Ranges = ((0x09, 0x0D), (0x20, 0x20))
_ALL_BLANKS = union(
    _ASCII_BLANKS,
    ((0x1C, 0x1F), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)),
    ((0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_BEYOND: Ranges = ((0x80, LAST),)
_MOST_REPEATS = 100_000
_MOST_GROUPS = 60
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}


@dataclass(frozen=True, slots=True)
class Class:
    """One character: `surely` in both dialects, `maybe` in either."""

    surely: Ranges
    maybe: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One node after another."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several nodes."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A node from `least` to `most` times; None: without end."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """The text's start or its end."""

    end: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Lookahead: what follows does, or does not, begin with a match of `part`."""

    part: Node
    negative: bool


Node = Class | Sequence | Choice | Loop | Anchor | Look

_SETS = {
    "d": Class(_ASCII_DIGITS, union(_ASCII_DIGITS, _BEYOND)),
    "w": Class(_ASCII_WORD, union(_ASCII_WORD, _BEYOND)),
    "s": Class(_ASCII_BLANKS, _ALL_BLANKS),
}
_SETS |= {name.upper(): Class(complement(each.maybe), complement(each.surely)) for name, each in _SETS.items()}
_DOT = Class(complement(((10, 10), (13, 13), (0x2028, 0x2029))), complement(((10, 10),)))


class PatternError(ValueError):
    """A regular expression that cannot be held, and why."""


def parsed(pattern: str) -> Node:
    """The tree of a regular expression. Raises PatternError."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"Python's re cannot read it ({error})") from error
    parser = _Parser(pattern)
    node = parser.choice(0)
    if parser.at < len(pattern):
        raise PatternError(f"')' at character {parser.at} closes nothing")
    return node


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def choice(self, depth: int) -> Node:
        if depth > _MOST_GROUPS:
            raise PatternError(f"its groups are nested deeper than {_MOST_GROUPS} levels")
        parts = [self._sequence(depth)]
        while self._take("|"):
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        times = self._times()
        if times is None:
            return node
        if isinstance(node, Anchor | Look):
            raise PatternError("it repeats an anchor or a lookahead")
        if self._peek() == "+":
            raise PatternError("possessive quantifiers are Python's alone")
        self._take("?")  # lazy: the same texts match
        if self._times() is not None:
            raise PatternError("it repeats a repetition; put a group around the inner one")
        return Loop(node, *times)

    def _times(self) -> tuple[int, int | None] | None:
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return times
        if self._peek() != "{":
            return None
        found = re.compile(r"\{([0-9]+)(,([0-9]*))?\}").match(self._pattern, self.at)
        if found is None:
            if re.compile(r"\{,[0-9]*\}").match(self._pattern, self.at):
                raise PatternError("'{,n}' is Python's alone; write '{0,n}'")
            return None
        self.at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > _MOST_REPEATS:
            raise PatternError(f"it repeats more than {_MOST_REPEATS} times")
        return least, most

    def _atom(self, depth: int) -> Node:
        character = self._peek()
        self.at += 1
        match character:
            case "(":
                return self._group(depth)
            case "[":
                return self._set()
            case ".":
                return _DOT
            case "^":
                return Anchor(end=False)
            case "$":
                return Anchor(end=True)
            case "\\":
                return self._escape(in_set=False)
            case _:
                return _exactly(ord(character))

    def _group(self, depth: int) -> Node:
        look = None
        if self._take("?="):
            look = False
        elif self._take("?!"):
            look = True
        elif not self._take("?:") and self._peek() == "?":
            kind = self._pattern[self.at : self.at + 3]
            raise PatternError(f"'({kind}' is not supported: groups are '(', '(?:', '(?=' and '(?!'")
        inner = self.choice(depth + 1)
        if not self._take(")"):
            raise PatternError("a group is not closed")
        return inner if look is None else Look(inner, look)

    def _escape(self, *, in_set: bool) -> Class:
        letter = self._peek()
        self.at += 1
        if letter in _SETS:
            return _SETS[letter]
        if letter in _CONTROLS and not (letter == "0" and self._peek().isdigit()):
            return _exactly(_CONTROLS[letter])
        if letter == "b" and in_set:
            return _exactly(8)
        if letter in ("x", "u"):
            digits = self._pattern[self.at : self.at + (2 if letter == "x" else 4)]
            self.at += len(digits)
            return _exactly(int(digits, 16))
        if letter.isalnum() or not letter:
            raise PatternError(f"'\\{letter}' is not supported")
        return _exactly(ord(letter))

    def _set(self) -> Class:
        negative = self._take("^")
        if self._peek() == "]":
            raise PatternError("'[]' and '[^]' are read differently by Python's re")
        surely: list[Ranges] = []
        maybe: list[Ranges] = []
        while not self._take("]"):
            each = self._member()
            if self._peek() == "-" and self._pattern[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                last = self._member()
                first_point, last_point = _single(each), _single(last)
                if first_point is None or last_point is None or last_point < first_point:
                    raise PatternError("a range of characters has no two ends in order")
                each = _of(((first_point, last_point),))
            surely.append(each.surely)
            maybe.append(each.maybe)
        both, some = union(*surely), union(*maybe)
        return Class(complement(some), complement(both)) if negative else Class(both, some)

    def _member(self) -> Class:
        character = self._peek()
        self.at += 1
        return self._escape(in_set=True) if character == "\\" else _exactly(ord(character))


def _of(ranges: Ranges) -> Class:
    return Class(ranges, ranges)


def _exactly(point: int) -> Class:
    return _of(((point, point),))


def _single(each: Class) -> int | None:
    ranges = each.surely
    return ranges[0][0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] and each.maybe == ranges else None


def chars(node: Class) -> Chars:
    """The characters that surely match."""
    return Chars(node.surely)
