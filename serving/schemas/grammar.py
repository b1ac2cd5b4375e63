"""Context-free grammars: expressions, the removal of what can never be completed, and xgrammar's EBNF."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]
"""Code points, as ranges with both ends, in order and apart."""

LAST = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Text:
    """These characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Chain:
    """One expression after another."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several expressions; of none, nothing matches."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """An expression from `least` to `most` times; None: without end."""

    part: Expression
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule that the grammar has under this key."""

    key: Hashable


Expression = Text | Chars | Chain | Either | Repeat | Rule

EMPTY = Text("")
NEVER = Either(())


def chain(*parts: Expression) -> Expression:
    """`parts` one after another, flat, with neighbouring texts joined."""
    flat: list[Expression] = []
    for part in parts:
        for each in part.parts if isinstance(part, Chain) else (part,):
            if each == NEVER:
                return NEVER
            if isinstance(each, Text) and flat and isinstance(last := flat[-1], Text):
                flat[-1] = Text(last.text + each.text)
            elif each != EMPTY:
                flat.append(each)
    return EMPTY if not flat else flat[0] if len(flat) == 1 else Chain(tuple(flat))


def either(parts: Iterable[Expression]) -> Expression:
    """One of `parts`, flat, each once."""
    flat: dict[Expression, None] = {}
    for part in parts:
        flat |= dict.fromkeys(part.parts if isinstance(part, Either) else (part,))
    return next(iter(flat)) if len(flat) == 1 else Either(tuple(flat))


def repeat(part: Expression, least: int = 0, most: int | None = None) -> Expression:
    """`part` from `least` to `most` times."""
    if most is not None and most < least:
        return NEVER
    if most == 0 or part == EMPTY:
        return EMPTY
    if part == NEVER:
        return NEVER if least else EMPTY
    return part if (least, most) == (1, 1) else Repeat(part, least, most)


def optional(part: Expression) -> Expression:
    """`part` or nothing."""
    return either((part, EMPTY)) if part != NEVER else EMPTY


class Grammar:
    """Rules by key. `write` makes the text that xgrammar compiles."""

    def __init__(self) -> None:
        self.rules: dict[Hashable, Expression] = {}

    def write(self, root: Hashable) -> str | None:
        """The rules that `root` leads to, as EBNF; None where nothing can match it.

        What leads nowhere is left out: an alternative or a repetition that can never be completed.
        """
        productive = self._productive()
        if root not in productive:
            return None
        pruned: dict[Hashable, Expression] = {}
        unread = [root]
        while unread:
            key = unread.pop()
            if key not in pruned:
                pruned[key] = _pruned(self.rules[key], productive)
                unread += _rules_in(pruned[key])
        names = {key: f"r{number}" for number, key in enumerate(pruned)} | {root: "root"}
        ordered = [root, *(key for key in pruned if key != root)]
        return "\n".join(f"{names[key]} ::= {_written(pruned[key], names, outer=True)}" for key in ordered) + "\n"

    def _productive(self) -> set[Hashable]:
        """The keys from which a finite text can be derived."""
        used_by: dict[Hashable, set[Hashable]] = defaultdict(set)
        for key, expression in self.rules.items():
            for used in _rules_in(expression):
                used_by[used].add(key)
        found: set[Hashable] = set()
        unread = list(self.rules)
        while unread:
            key = unread.pop()
            if key not in found and _completes(self.rules[key], found):
                found.add(key)
                unread += used_by[key]
        return found


def _rules_in(expression: Expression) -> Iterator[Hashable]:
    unread = [expression]
    while unread:
        each = unread.pop()
        if isinstance(each, Rule):
            yield each.key
        elif isinstance(each, Chain | Either):
            unread += each.parts
        elif isinstance(each, Repeat):
            unread.append(each.part)


def _completes(expression: Expression, productive: set[Hashable]) -> bool:
    match expression:
        case Text():
            return True
        case Chars():
            return bool(expression.ranges)
        case Chain():
            return all(_completes(part, productive) for part in expression.parts)
        case Either():
            return any(_completes(part, productive) for part in expression.parts)
        case Repeat():
            return expression.least == 0 or _completes(expression.part, productive)
        case Rule():
            return expression.key in productive


def _pruned(expression: Expression, productive: set[Hashable]) -> Expression:
    match expression:
        case Chain():
            return chain(*(_pruned(part, productive) for part in expression.parts))
        case Either():
            parts = [part for part in expression.parts if _completes(part, productive)]
            return either(_pruned(part, productive) for part in parts)
        case Repeat():
            if not _completes(expression.part, productive):
                return EMPTY
            return repeat(_pruned(expression.part, productive), expression.least, expression.most)
        case _:
            return expression


def _written(expression: Expression, names: dict[Hashable, str], *, outer: bool = False) -> str:
    match expression:
        case Text():
            return _quoted(expression.text)
        case Chars():
            return "[" + "".join(_range(first, last) for first, last in expression.ranges) + "]"
        case Rule():
            return names[expression.key]
        case Chain():
            text = " ".join(_written(part, names) for part in expression.parts)
        case Either():
            text = " | ".join(_written(part, names) for part in expression.parts)
        case Repeat():
            least, most = expression.least, expression.most
            times = f"{{{least},{'' if most is None else most}}}"
            if most is None and least < 2:
                times = "*+"[least]
            part = _written(expression.part, names)
            return f"({part}){times}"
    return text if outer else f"({text})"


def _quoted(text: str) -> str:
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else _code(ord(character))


def _range(first: int, last: int) -> str:
    return _code(first) if first == last else f"{_code(first)}-{_code(last)}"


def _code(point: int) -> str:
    if 0x30 <= point < 0x7F and chr(point).isalnum():
        return chr(point)
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def union(*sets: Ranges) -> Ranges:
    """The characters of any of the sets."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(each for ranges in sets for each in ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    others: list[tuple[int, int]] = []
    begin = 0
    for first, last in ranges:
        if begin < first:
            others.append((begin, first - 1))
        begin = last + 1
    return tuple([*others, (begin, LAST)] if begin <= LAST else others)


def intersection(first: Ranges, second: Ranges) -> Ranges:
    """The characters of both sets."""
    return complement(union(complement(first), complement(second)))
