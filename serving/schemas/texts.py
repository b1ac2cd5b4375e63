"""JSON strings by their facets: lengths, patterns, formats and texts that are left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from serving.schemas import formats
from serving.schemas.facets import StringFacets
from serving.schemas.grammar import (
    EMPTY,
    LAST,
    NEVER,
    Chars,
    Expression,
    Ranges,
    Rule,
    Text,
    chain,
    complement,
    either,
    intersection,
    repeat,
    union,
)
from serving.schemas.languages import Languages, Term, looks, widths
from serving.schemas.patterns import Anchor, Choice, Class, Loop, Node, PatternError, Sequence, parsed
from serving.schemas.problems import UnsupportedError, Work
from serving.schemas.validating import is_quick

_SURROGATES = (0xD800, 0xDFFF)
ALL: Ranges = ((0, 0xD7FF), (0xE000, LAST))
KEYS: Ranges = ((0x20, 0xD7FF), (0xE000, LAST))
"""Characters of names: without control characters, on which dialects of patterns differ."""
_PLAIN: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, LAST))
_ESCAPED: Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C))
_HEX: Ranges = ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66))
_MOST_EXCLUDED = 60
"""Characters of listed names that other names are told apart from exactly: each is a state."""
_HEAD = 2

Add = Callable[[Hashable, Expression], Rule]


@dataclass(frozen=True, slots=True)
class _Automaton:
    """Key of an automaton's state among the grammar's rules."""

    start: Term
    alphabet: Ranges
    state: Term


def json_text(text: str) -> str:
    """A string as JSON, characters as they are."""
    return json.dumps(text, ensure_ascii=False)


class Texts:
    """Expressions of JSON strings; `add` takes the rules that they need."""

    def __init__(self, add: Add, work: Work) -> None:
        self._work = work
        self._add = add
        self._languages = Languages(work)
        self._parsed: dict[str, Node] = {}
        self._made: dict[tuple[StringFacets, Ranges], Expression] = {}

    def string(self, facets: StringFacets, alphabet: Ranges = ALL) -> Expression:
        """A string in its quotes. NEVER where no text has these facets."""
        known = self._made.get((facets, alphabet))
        if known is None:
            inner = self._inner(facets, alphabet)
            known = NEVER if inner == NEVER else chain(Text('"'), inner, Text('"'))
            self._made[facets, alphabet] = known
        return known

    def found(self, pattern: str, at: str, text: str) -> bool:
        """Whether a pattern of names is found in a name."""
        if not is_quick(self._node(pattern, at)):
            raise UnsupportedError(at, "a pattern of names may have two repetitions, each of one character.")
        return re.search(pattern, text) is not None

    def is_empty(self, facets: StringFacets) -> bool:
        """Whether no text has these facets."""
        if not facets.patterns and not facets.unlike:
            return False
        try:
            return self._languages.is_empty(self._term(facets, wide=True), ALL)
        except PatternError:
            return False

    def _inner(self, facets: StringFacets, alphabet: Ranges) -> Expression:
        shapes = [(pattern, at) for pattern, at in facets.patterns]
        shapes += [(formats.HELD[form], at) for form, at in facets.formats]
        if not shapes and not facets.unlike and not facets.excluded:
            if alphabet == ALL:
                return repeat(self._any_character(), facets.least, facets.most)
            return repeat(_json_character(alphabet), facets.least, facets.most)
        if len(shapes) == 1 and not facets.unlike and not facets.excluded:
            direct = self._direct(self._node(*shapes[0]), facets.least, facets.most, alphabet)
            if direct is not None:
                return direct
        at = (*shapes, *facets.unlike, ("", ""))[0][1]
        try:
            if not shapes and not facets.unlike and sum(map(len, facets.excluded)) > _MOST_EXCLUDED:
                return self._unlike_heads(facets, alphabet)
            return self._by_automaton(facets, alphabet)
        except PatternError as error:
            raise UnsupportedError(at, f"{error}.") from error

    def _node(self, pattern: str, at: str) -> Node:
        node = self._parsed.get(pattern)
        if node is None:
            try:
                node = self._parsed[pattern] = parsed(pattern)
            except PatternError as error:
                raise UnsupportedError(at, f"{error}.") from error
        return node

    def _any_character(self) -> Rule:
        """Any character, in any of its spellings but those of halves of a surrogate pair."""
        surrogate = chain(Chars(((0x44, 0x44), (0x64, 0x64))), Chars(((0x30, 0x37),)))
        other = chain(Chars(((0x30, 0x39), (0x41, 0x43), (0x45, 0x46), (0x61, 0x63), (0x65, 0x66))), Chars(_HEX))
        code = chain(Text("u"), either((other, surrogate)), Chars(_HEX), Chars(_HEX))
        short = Chars(tuple(sorted((ord(each), ord(each)) for each in '"/\\bfnrt')))
        return self._add("character", either((Chars(_PLAIN), chain(Text("\\"), either((short, code))))))

    # --- one pattern, as it stands

    def _direct(self, node: Node, least: int, most: int | None, alphabet: Ranges) -> Expression | None:
        """The expression of a pattern without lookahead and anchors in its midst; None: it needs an automaton."""
        parts = node.parts if isinstance(node, Choice) else (node,)
        ways = [self._direct_way(part, least, most, alphabet) for part in parts]
        return None if None in ways else either(way for way in ways if way is not None)

    def _direct_way(self, node: Node, least: int, most: int | None, alphabet: Ranges) -> Expression | None:
        parts = list(node.parts) if isinstance(node, Sequence) else [node]
        starts = ends = False
        while parts and parts[0] == Anchor(end=False):
            starts, parts = True, parts[1:]
        while parts and parts[-1] == Anchor(end=True):
            ends, parts = True, parts[:-1]
        inner = Sequence(tuple(parts))
        if looks(inner) or _repeats_nothing(inner):
            return None
        fewest, widest = widths(inner)
        if not (starts and ends):
            widest = None
        if fewest < least or (most is not None and (widest is None or widest > most)):
            only = parts[0] if len(parts) == 1 and starts and ends else None
            if not isinstance(only, Loop) or not isinstance(only.part, Class):
                return None
            longest = most if only.most is None else only.most if most is None else min(most, only.most)
            return repeat(_json_character(_within(only.part, alphabet)), max(least, only.least), longest)
        written = self._written(inner, alphabet)
        free = repeat(_json_character(alphabet))
        return chain(EMPTY if starts else free, written, EMPTY if ends else free)

    def _written(self, node: Node, alphabet: Ranges) -> Expression:
        match node:
            case Class():
                return _json_character(_within(node, alphabet))
            case Sequence():
                return chain(*(self._written(part, alphabet) for part in node.parts))
            case Choice():
                return either(self._written(part, alphabet) for part in node.parts)
            case Loop():
                return repeat(self._written(node.part, alphabet), node.least, node.most)
            case _:
                raise AssertionError(node)

    # --- several at once

    def _by_automaton(self, facets: StringFacets, alphabet: Ranges) -> Expression:
        start = self._term(facets, wide=False)
        states = self._languages.automaton(start, alphabet)
        if not any(state.accepts for state in states.values()):
            return NEVER
        for term, state in states.items():
            self._work.take(1 + len(state.ways))
            ways = [chain(_json_character(ranges), Rule(_Automaton(start, alphabet, to))) for ranges, to in state.ways]
            if term == self._languages.anything:
                self._add(_Automaton(start, alphabet, term), repeat(_json_character(alphabet)))
            else:
                written = either([*ways, EMPTY] if state.accepts else ways) if ways or state.accepts else NEVER
                self._add(_Automaton(start, alphabet, term), written)
        return Rule(_Automaton(start, alphabet, start))

    def _term(self, facets: StringFacets, *, wide: bool) -> Term:
        languages = self._languages
        terms = {languages.matches(self._node(pattern, at), in_any_dialect=wide) for pattern, at in facets.patterns}
        terms |= {languages.matches(self._node(formats.HELD[form], at)) for form, at in facets.formats}
        for pattern, at in facets.unlike:
            terms.add(languages.other(languages.matches(self._node(pattern, at), in_any_dialect=not wide)))
        if facets.least or facets.most is not None:
            terms.add(languages.length(facets.least, facets.most))
        if facets.excluded:
            terms.add(languages.other(languages.either({languages.text(text) for text in facets.excluded})))
        return languages.both(terms)

    def _unlike_heads(self, facets: StringFacets, alphabet: Ranges) -> Expression:
        """Texts that begin otherwise than each that is left out: narrower than need be, and small."""
        if facets.least or facets.most is not None:
            raise PatternError("names of a length cannot be told apart from so many others")
        known = {text[:_HEAD] for text in facets.excluded}
        firsts = {text[:1] for text in facets.excluded}
        rest = repeat(_json_character(alphabet))
        ways = [chain(_json_character(_but(alphabet, firsts)), rest)]
        for first in sorted(filter(None, firsts)):
            seconds = {head[1:] for head in known if head[:1] == first}
            other = chain(_json_character(_but(alphabet, seconds)), rest)
            alone = first not in facets.excluded
            ways.append(chain(_json_character(((ord(first), ord(first)),)), either((other, EMPTY)) if alone else other))
        return either(ways if "" in facets.excluded else [*ways, EMPTY])


def _but(alphabet: Ranges, characters: set[str]) -> Ranges:
    others = union(*(((ord(each), ord(each)),) for each in characters if each))
    return intersection(alphabet, complement(others))


def _within(node: Class, alphabet: Ranges) -> Ranges:
    return intersection(node.surely, alphabet)


def _json_character(ranges: Ranges) -> Expression:
    """One character of a set as JSON spells it: as it is, or by the shortest escape."""
    plain = intersection(ranges, _PLAIN)
    escaped = [
        json_text(chr(point))[1:-1]
        for first, last in intersection(ranges, _ESCAPED)
        for point in range(first, last + 1)
    ]
    ways: list[Expression] = [Chars(plain)] if plain else []
    ways += [Text(each) for each in escaped]
    return either(ways) if ways else NEVER


def _repeats_nothing(node: Node) -> bool:
    """Whether a repetition's inside may be empty: the grammar would have no end of ways to read that."""
    match node:
        case Loop():
            return widths(node.part)[0] == 0 or _repeats_nothing(node.part)
        case Sequence() | Choice():
            return any(_repeats_nothing(part) for part in node.parts)
        case _:
            return False
