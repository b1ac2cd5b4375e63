"""Regular languages by derivatives: patterns, lengths and exclusions of texts put together as one automaton.

A term stands for a language; Brzozowski's derivative of a term by a character is the language of what may follow it.
Terms know intersection and complement, so lookahead, several patterns at once and "anything but" are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from serving.schemas.grammar import LAST, Ranges
from serving.schemas.patterns import Anchor, Choice, Class, Look, Loop, Node, PatternError, Sequence
from serving.schemas.problems import Work

MOST_STATES = 300
"""Each costs the engine's grammar compiler some 10 ms."""
_MOST_TERMS = 20_000
_MOST_UNROLLED = 16

Term = int
Continuation = Callable[[bool], Term]


@dataclass(frozen=True, slots=True)
class State:
    """State of an automaton: whether a text may end here, and the states that characters lead to."""

    accepts: bool
    ways: tuple[tuple[Ranges, Term], ...]


class Languages:
    """Terms, kept once each. Raises PatternError for what would need too many of them."""

    def __init__(self, work: Work | None = None) -> None:
        self._work = work or Work()
        self._terms: list[tuple[Hashable, ...]] = []
        self._numbers: dict[tuple[Hashable, ...], Term] = {}
        self._derivatives: dict[tuple[Term, int], Term] = {}
        self.nothing = self._term("or")
        self.anything = self._term("not", self.nothing)
        self.empty = self._term("empty")

    def _term(self, *parts: Hashable) -> Term:
        number = self._numbers.get(parts)
        if number is None:
            if len(self._terms) >= _MOST_TERMS:
                raise PatternError("it is too complex")
            number = self._numbers[parts] = len(self._terms)
            self._terms.append(parts)
        return number

    def one_of(self, ranges: Ranges) -> Term:
        """One character of a set."""
        return self._term("set", ranges) if ranges else self.nothing

    def text(self, text: str) -> Term:
        """One text."""
        term = self.empty
        for character in reversed(text):
            term = self.chain(self.one_of(((ord(character), ord(character)),)), term)
        return term

    def chain(self, first: Term, second: Term) -> Term:
        """One after the other."""
        if self.nothing in (first, second):
            return self.nothing
        if first == self.empty:
            return second
        if second == self.empty:
            return first
        parts = self._terms[first]
        if parts[0] == "chain":
            return self.chain(_int(parts[1]), self.chain(_int(parts[2]), second))
        return self._term("chain", first, second)

    def either(self, terms: set[Term]) -> Term:
        """Any of the languages."""
        flat = self._flat("or", terms)
        if self.anything in flat:
            return self.anything
        return flat.pop() if len(flat) == 1 else self._term("or", *sorted(flat))

    def both(self, terms: set[Term]) -> Term:
        """Intersection of the languages."""
        flat = self._flat("and", terms) - {self.anything}
        if self.nothing in flat:
            return self.nothing
        if not flat:
            return self.anything
        return flat.pop() if len(flat) == 1 else self._term("and", *sorted(flat))

    def _flat(self, operator: str, terms: set[Term]) -> set[Term]:
        flat: set[Term] = set()
        for term in terms:
            parts = self._terms[term]
            flat |= {_int(part) for part in parts[1:]} if parts[0] == operator else {term}
        return flat

    def other(self, term: Term) -> Term:
        """All texts but those of a language."""
        parts = self._terms[term]
        return _int(parts[1]) if parts[0] == "not" else self._term("not", term)

    def loop(self, term: Term, least: int, most: int | None) -> Term:
        """From `least` to `most` times."""
        if most == 0 or term == self.empty:
            return self.empty
        if term == self.nothing:
            return self.nothing if least else self.empty
        return term if (least, most) == (1, 1) else self._term("loop", term, least, most)

    def length(self, least: int, most: int | None) -> Term:
        """Texts of a length."""
        return self.loop(self.one_of(((0, LAST),)), least, most)

    def matches(self, node: Node, *, in_any_dialect: bool = False) -> Term:
        """The texts in which a pattern is found; `in_any_dialect`: also those that only one dialect finds it in."""

        def rest(start: bool) -> Term:
            return self.anything

        here = self._built(node, rest, start=True, wide=in_any_dialect)
        later = self._built(node, rest, start=False, wide=in_any_dialect)
        return self.either({here, self.chain(self.length(1, 1), self.chain(self.anything, later))})

    def _built(self, node: Node, rest: Continuation, *, start: bool, wide: bool) -> Term:
        """`node` and what follows it; `start` says whether nothing precedes it."""
        match node:
            case Class():
                return self.chain(self.one_of(node.maybe if wide else node.surely), rest(False))
            case Sequence():
                following = rest
                for part in reversed(node.parts[1:]):
                    following = self._then(part, following, wide)
                return self._built(node.parts[0], following, start=start, wide=wide) if node.parts else rest(start)
            case Choice():
                return self.either({self._built(part, rest, start=start, wide=wide) for part in node.parts})
            case Loop():
                return self._loop(node, rest, start=start, wide=wide)
            case Anchor():
                if not node.end:
                    return rest(start) if start else self.nothing
                ends = {self.empty, self.text("\n")} if wide else {self.empty}
                return self.both({self.either(ends), rest(start)})
            case Look():
                inner = self._built(node.part, lambda start: self.anything, start=start, wide=wide is not node.negative)
                return self.both({self.other(inner) if node.negative else inner, rest(start)})

    def _then(self, node: Node, rest: Continuation, wide: bool) -> Continuation:
        known: dict[bool, Term] = {}

        def term(start: bool) -> Term:
            if start not in known:
                known[start] = self._built(node, rest, start=start, wide=wide)
            return known[start]

        return term

    def _loop(self, node: Loop, rest: Continuation, *, start: bool, wide: bool) -> Term:
        if looks(node.part):
            if node.most is None or node.most > _MOST_UNROLLED:
                raise PatternError("it repeats an anchor or a lookahead")
            following = rest
            for number in range(node.most, 0, -1):
                part = node.part if number <= node.least else Choice((node.part, Sequence(())))
                following = self._then(part, following, wide)
            return following(start)
        inner = self._built(node.part, lambda start: self.empty, start=False, wide=wide)
        loop = self.loop(inner, node.least, node.most)
        repeated = self.chain(loop, rest(False))
        return self.either({repeated, rest(True)}) if start and self.nullable(loop) else repeated

    def nullable(self, term: Term) -> bool:
        """Whether the empty text is in a language."""
        kind, *parts = self._terms[term]
        match kind:
            case "empty":
                return True
            case "set":
                return False
            case "or":
                return any(self.nullable(_int(part)) for part in parts)
            case "chain" | "and":
                return all(self.nullable(_int(part)) for part in parts)
            case "not":
                return not self.nullable(_int(parts[0]))
            case _:
                return parts[1] == 0 or self.nullable(_int(parts[0]))

    def after(self, term: Term, point: int) -> Term:
        """The derivative: what may follow a character."""
        known = self._derivatives.get((term, point))
        if known is None:
            self._work.take()
            known = self._derivatives[term, point] = self._after(term, point)
        return known

    def _after(self, term: Term, point: int) -> Term:
        kind, *parts = self._terms[term]
        match kind:
            case "empty":
                return self.nothing
            case "set":
                return self.empty if _has(parts[0], point) else self.nothing
            case "or":
                return self.either({self.after(_int(part), point) for part in parts})
            case "and":
                return self.both({self.after(_int(part), point) for part in parts})
            case "not":
                return self.other(self.after(_int(parts[0]), point))
            case "chain":
                first, second = _int(parts[0]), _int(parts[1])
                here = self.chain(self.after(first, point), second)
                return self.either({here, self.after(second, point)}) if self.nullable(first) else here
            case _:
                inner, least, most = _int(parts[0]), _int(parts[1]), parts[2]
                left = self.loop(inner, max(least - 1, 0), None if most is None else _int(most) - 1)
                return self.chain(self.after(inner, point), left)

    def _sets(self, term: Term) -> set[Ranges]:
        """Sets that tell apart which characters a text of a language may begin with."""
        kind, *parts = self._terms[term]
        match kind:
            case "empty":
                return set()
            case "set":
                return {parts[0]}  # type: ignore[arg-type]  # a "set" has ranges
            case "chain":
                sets = self._sets(_int(parts[0]))
                return sets | self._sets(_int(parts[1])) if self.nullable(_int(parts[0])) else sets
            case "loop":
                return self._sets(_int(parts[0]))
            case _:
                return set().union(*(self._sets(_int(part)) for part in parts))

    def automaton(self, start: Term, alphabet: Ranges) -> dict[Term, State]:
        """The states reached from `start` by characters of `alphabet`."""
        states: dict[Term, State] = {}
        unread = [start]
        while unread:
            term = unread.pop()
            if term in states or term == self.nothing:
                continue
            if len(states) >= MOST_STATES:
                raise PatternError(f"it needs more than {MOST_STATES} states")
            ways: dict[Term, list[tuple[int, int]]] = {}
            for first, last in _cut(self._sets(term), alphabet):
                target = self.after(term, first)
                if target != self.nothing:
                    ways.setdefault(target, []).append((first, last))
            states[term] = State(self.nullable(term), tuple((tuple(ranges), to) for to, ranges in ways.items()))
            unread += ways
        return states

    def is_empty(self, start: Term, alphabet: Ranges) -> bool:
        """Whether no text of `alphabet` is in a language."""
        return not any(state.accepts for state in self.automaton(start, alphabet).values())


def looks(node: Node) -> bool:
    """Whether there is an anchor or a lookahead in a node."""
    match node:
        case Anchor() | Look():
            return True
        case Sequence() | Choice():
            return any(looks(part) for part in node.parts)
        case Loop():
            return looks(node.part)
        case _:
            return False


def widths(node: Node) -> tuple[int, int | None]:
    """The fewest and the most characters of a match."""
    match node:
        case Class():
            return 1, 1
        case Sequence():
            each = [widths(part) for part in node.parts]
            most = [most for _, most in each]
            return sum(least for least, _ in each), None if None in most else sum(filter(None, most))
        case Choice():
            each = [widths(part) for part in node.parts]
            most = [most for _, most in each]
            return min(least for least, _ in each), None if None in most else max(width or 0 for width in most)
        case Loop():
            least, widest = widths(node.part)
            if widest == 0:
                return 0, 0
            return least * node.least, None if node.most is None or widest is None else widest * node.most
        case _:
            return 0, 0


def _cut(sets: set[Ranges], alphabet: Ranges) -> list[tuple[int, int]]:
    """`alphabet` in pieces, each wholly inside or outside of every set."""
    borders = {point for ranges in sets for first, last in ranges for point in (first, last + 1)}
    ordered = sorted(borders)
    pieces: list[tuple[int, int]] = []
    for first, last in alphabet:
        begin = first
        for border in ordered:
            if begin < border <= last:
                pieces.append((begin, border - 1))
                begin = border
        pieces.append((begin, last))
    return pieces


def _has(ranges: Hashable, point: int) -> bool:
    return any(first <= point <= last for first, last in ranges)  # type: ignore[attr-defined]  # ranges of a "set"


def _int(part: Hashable) -> int:
    assert isinstance(part, int)
    return part
