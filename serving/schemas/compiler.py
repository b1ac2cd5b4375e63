"""JSON schemas as grammars of the texts that are valid by them.

Each set of schemas that one value is to be valid by is a rule; so recursion needs no limit. The grammar may be narrower
than the schema (properties in order, no blanks but one after a comma or a colon, no needless escapes), never wider.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

from jsonschema.protocols import Validator

from serving.schemas.facets import (
    ArrayFacets,
    Facets,
    Literally,
    Members,
    NumberFacets,
    ObjectFacets,
    Part,
    StringFacets,
)
from serving.schemas.grammar import (
    EMPTY,
    NEVER,
    Expression,
    Grammar,
    Rule,
    Text,
    chain,
    either,
    optional,
    repeat,
)
from serving.schemas.numbers import MultipleError, number, residues
from serving.schemas.places import joined
from serving.schemas.problems import InvalidError, UnsupportedError, Work
from serving.schemas.shapes import Shapes, is_void, literally
from serving.schemas.texts import KEYS, Texts, json_text

MOST_RULES = 20_000
_MOST_WRITTEN = 1_000_000
_MOST_PATTERNS = 3
_MOST_COUNTED = 2_000
_DEEPEST_LOOK = 6

State = tuple[Part, ...]

_COMMA = chain(Text(","), optional(Text(" ")))
_COLON = chain(Text(":"), optional(Text(" ")))


def compiled(validator: Validator, places: dict[int, str]) -> str:
    """The grammar of a schema, as xgrammar's EBNF; `places` has where each schema stands in it, by its id().

    Raises UnsupportedError (InvalidError) for the first keyword that cannot be held.
    """
    work = Work()
    compiler = _Compiler(Shapes(validator, places, work), work)
    text = compiler.grammar.write(compiler.start())
    if text is None:
        raise InvalidError("", "no value is valid by it.")
    if len(text) > _MOST_WRITTEN:
        raise UnsupportedError("", "it is too large to hold answers to.")
    return text


class _Compiler:
    def __init__(self, shapes: Shapes, work: Work) -> None:
        self.grammar = Grammar()
        self._shapes = shapes
        self._work = work
        self._texts = Texts(self._add, work)
        self._unmade: list[State] = []
        self._seen: set[State] = set()
        self._never: dict[State, bool] = {}

    def start(self) -> Hashable:
        """Make the rules; the key of the first one."""
        root = _state((self._shapes.root,))
        self._value(root)
        while self._unmade:
            state = self._unmade.pop()
            self._add(state, self._any_of(state))
        return root

    def _add(self, key: Hashable, expression: Expression) -> Rule:
        self.grammar.rules[key] = expression
        self._work.take()
        if len(self.grammar.rules) > MOST_RULES:
            raise UnsupportedError("", "it is too large to hold answers to.")
        return Rule(key)

    def _value(self, state: State) -> Rule:
        """The rule of a value that is valid by all schemas of a state."""
        if state not in self._seen:
            self._seen.add(state)
            self._unmade.append(state)
        return Rule(state)

    def _any_of(self, state: State) -> Expression:
        parts: list[Expression] = []
        shape = self._shapes.of_all(state)
        meant = [kind for kind in shape if any(kind in self._shapes.meant(part) for part in state)]
        for kind in meant or shape:
            alternatives = shape[kind]
            for number_, facets in enumerate(alternatives):
                if facets.values is not None:
                    parts += [Text(each.text) for each in self._valid(facets.values, state)]
                elif not is_void(facets):
                    parts.append(self._alternative(state, (state, kind, number_), kind, facets))
        return either(part for part in parts if part != NEVER)

    def _valid(self, values: Iterable[Literally], state: State) -> list[Literally]:
        return [each for each in values if all(self._shapes.allows(part, each.value) for part in state)]

    def _alternative(self, state: State, key: Hashable, kind: str, facets: Facets) -> Expression:
        match facets:
            case ObjectFacets():
                written: Expression = self._object(state, key, facets)
            case ArrayFacets():
                written = self._array(state, key, facets)
            case StringFacets():
                written = self._texts.string(facets)
            case NumberFacets():
                written = self._number(key, facets, state)
            case _:
                written = Text("null") if kind == "null" else either((Text("true"), Text("false")))
        if facets.avoid and written != NEVER:
            for part in facets.avoid:
                self._check_apart(state, kind, facets, part)
        return written

    # --- numbers

    def _number(self, key: Hashable, facets: NumberFacets, state: State) -> Expression:
        multiples = residues(facets.limits)
        try:
            return number(facets.limits) if multiples is None else self._multiples(key, *multiples)
        except MultipleError as error:
            at = next(
                (part.at for part in state if isinstance(part.schema, dict) and "multipleOf" in part.schema),
                state[0].at,
            )
            raise UnsupportedError(joined(at, "multipleOf"), f"{error}.") from error

    def _multiples(self, key: Hashable, step: int, zero: bool, negative: bool) -> Expression:
        """Multiples of `step`: one rule for each remainder of the digits so far."""

        def ways(so_far: int, first: int) -> Iterable[Expression]:
            for digit in range(first, 10):
                yield chain(Text(str(digit)), Rule((key, "remainder", (so_far * 10 + digit) % step)))

        for remainder in range(step):
            going_on = either(ways(remainder, 0))
            self._add((key, "remainder", remainder), going_on if remainder else either((going_on, EMPTY)))
        positive = either(ways(0, 1))
        written = chain(optional(Text("-")), positive) if negative else positive
        return either((written, Text("0"))) if zero else written

    # --- arrays

    def _array(self, state: State, key: Hashable, facets: ArrayFacets) -> Expression:
        if facets.unique is not None and (facets.most is None or facets.most > 1):
            return self._unique(state, facets)
        longest = max((len(items.prefix) for items in facets.items), default=0)
        rest = self._item(facets, longest)
        if facets.contains:
            return self._containing(state, facets, longest, rest)
        most = facets.most
        tail: Expression = EMPTY
        for index in range(longest if most is None else min(longest, most), -1, -1):
            comma = _COMMA if index else EMPTY
            if index == longest:
                left = None if most is None else most - index
                tail = _listed(self._value(rest), facets.least - index, left, first=index == 0)
            elif most is None or index < most:
                item = chain(comma, self._value(self._item(facets, index)), tail)
                tail = self._add((key, "item", index), item if index < facets.least else optional(item))
            else:
                tail = EMPTY
        return chain(Text("["), tail, Text("]"))

    def _item(self, facets: ArrayFacets, index: int) -> State:
        parts = [items.prefix[index] if index < len(items.prefix) else items.rest for items in facets.items]
        return _state(part for part in parts if part is not None)

    def _containing(self, state: State, facets: ArrayFacets, longest: int, rest: State) -> Expression:
        (wanted, times), *others = facets.contains
        if others or longest or facets.most is not None or facets.least > times:
            raise UnsupportedError(
                wanted.at, "answers are held to it only without tuples, bounds of the number of items and a second one."
            )
        free, found = self._value(rest), self._value(_state((*rest, wanted)))
        one = chain(repeat(chain(free, _COMMA)), found)
        return chain(
            Text("["), one, repeat(chain(_COMMA, one), times - 1, times - 1), repeat(chain(_COMMA, free)), Text("]")
        )

    def _unique(self, state: State, facets: ArrayFacets) -> Expression:
        """Different items: of listed values each at most once, in their order."""
        at = facets.unique or ""
        values = self._listed_values(self._item(facets, 0))
        if values is None or facets.contains or any(items.prefix for items in facets.items):
            raise UnsupportedError(at, "answers are held to it only where the items have an 'enum'.")
        most = len(values) if facets.most is None else min(facets.most, len(values))
        if len(values) * (most + 1) > _MOST_COUNTED:
            raise UnsupportedError(at, "its items have too many values.")

        def rest(index: int, count: int) -> Rule:
            return Rule((state, at, "unique", index, count))

        for index in range(len(values) + 1):
            for count in range(min(index, most) + 1):
                ways: list[Expression] = [EMPTY] if count >= facets.least else []
                if count < most:
                    comma = _COMMA if count else EMPTY
                    ways += [
                        chain(comma, Text(value.text), rest(after + 1, count + 1))
                        for after, value in enumerate(values[index:], index)
                    ]
                self._add(rest(index, count).key, either(ways) if ways else NEVER)
        return chain(Text("["), rest(0, 0), Text("]"))

    def _listed_values(self, state: State) -> list[Literally] | None:
        """The values that a state allows, where they are few and known."""
        values: dict[str, Literally] = {}
        for kind, alternatives in self._shapes.of_all(state).items():
            for facets in alternatives:
                if facets.values is not None:
                    known = facets.values
                elif kind in ("null", "boolean"):
                    known = tuple(literally(value) for value in ((None,) if kind == "null" else (True, False)))
                else:
                    return None
                values |= {each.text: each for each in self._valid(known, state)}
        distinct: list[Literally] = []
        for each in values.values():
            if not any(each.value == other.value for other in distinct):  # 1 and 1.0 are one value
                distinct.append(each)
        return distinct

    # --- objects

    def _object(self, state: State, key: Hashable, facets: ObjectFacets) -> Expression:
        names, extras = self._members(facets)
        if any(name not in names for name in facets.required):
            return NEVER
        members = [
            (chain(Text(json_text(name)), _COLON, self._value(self._member(facets, name))), name in facets.required)
            for name in names
        ]
        if facets.least or facets.most is not None:
            inner = self._counted(key, facets, members, extras)
        else:
            inner = self._uncounted(key, members, extras)
        return chain(Text("{"), inner, Text("}"))

    def _uncounted(
        self, key: Hashable, members: Sequence[tuple[Expression, bool]], extras: Expression | None
    ) -> Expression:
        """The members of an object, any number of those that are not required."""
        # What may follow after a member: ("after", i) goes on with member i.
        tail = EMPTY if extras is None else repeat(chain(_COMMA, extras))
        after: list[Expression] = [self._add((key, "after", len(members)), tail)]
        for index in range(len(members) - 1, -1, -1):
            member, required = members[index]
            one = chain(_COMMA, member)
            after.insert(0, self._add((key, "after", index), chain(one if required else optional(one), after[0])))
        ways: list[Expression] = []
        for index, (member, required) in enumerate(members):
            ways.append(chain(member, after[index + 1]))
            if required:
                break
        else:
            ways.append(EMPTY)
            if extras is not None:
                ways.append(chain(extras, after[-1]))
        return either(ways)

    def _counted(
        self, key: Hashable, facets: ObjectFacets, members: Sequence[tuple[Expression, bool]], extras: Expression | None
    ) -> Expression:
        """The members of an object that has bounds of their number. Names beyond the listed ones may be equal: they
        count as one."""
        most = facets.most
        counts = len(members) if most is None else min(most, len(members))
        if (len(members) + 1) * (counts + 1) > _MOST_COUNTED:
            raise UnsupportedError(facets.least_at, "it is held for fewer properties.")
        # Without the upper bound all counts from the lower one on are alike.
        highest = counts if most is not None else min(counts, facets.least)

        def rest(index: int, count: int) -> Rule:
            return Rule((key, "counted", index, min(count, highest)))

        for count in range(highest + 1):
            self._add(rest(len(members), count).key, self._counted_extras(facets, count, extras))
            for index, (member, required) in enumerate(members):
                ways: list[Expression] = [] if required else [rest(index + 1, count)]
                if most is None or count < most:
                    ways.append(chain(_COMMA if count else EMPTY, member, rest(index + 1, count + 1)))
                self._add(rest(index, count).key, either(ways) if ways else NEVER)
        return rest(0, 0)

    def _counted_extras(self, facets: ObjectFacets, count: int, extras: Expression | None) -> Expression:
        missing = facets.least - count
        if extras is None or (facets.most is not None and count >= facets.most):
            return EMPTY if missing <= 0 else NEVER
        if missing > 1:
            return NEVER
        left = None if facets.most is None else facets.most - count
        return _listed(extras, max(missing, 0), left, first=count == 0)

    def _member(self, facets: ObjectFacets, name: str) -> State:
        """The schemas of one property."""
        parts: list[Part] = []
        for members in facets.members:
            met = [part for listed, part in members.named if listed == name]
            met += [part for pattern, at, part in members.patterns if self._texts.found(pattern, at, name)]
            parts += met or ([] if members.others is None else [members.others])
        return _state(parts)

    def _members(self, facets: ObjectFacets) -> tuple[list[str], Expression | None]:
        """The names that are listed, in order, and the expression of all other members; None: there are none."""
        listed = dict.fromkeys(name for members in facets.members for name, _ in members.named)
        listed |= dict.fromkeys(facets.required)
        names = [name for name in listed if all(self._shapes.allows(part, name) for part in facets.names)]
        is_open = (
            (not facets.members and not facets.required)
            or any(members.patterns or _opens(members) for members in facets.members)
            or len(listed) < facets.least
        )
        if not is_open:
            return names, None
        if facets.names:
            few = self._listed_values(_state(facets.names))
            if few is not None:
                more = [each.value for each in few if isinstance(each.value, str) and each.value not in listed]
                return [*names, *more], None
        return names, self._others(facets, tuple(listed))

    def _others(self, facets: ObjectFacets, listed: tuple[str, ...]) -> Expression | None:
        """Members that are not listed: for each set of patterns that may be found in their names, one alternative."""
        patterns = dict.fromkeys(pattern[:2] for members in facets.members for pattern in members.patterns)
        distinct = dict(reversed(patterns))
        for pattern, at in distinct.items():
            self._texts.found(pattern, at, "")
        if len(distinct) > _MOST_PATTERNS:
            at = next(iter(distinct.values()))
            raise UnsupportedError(at, f"answers are held to at most {_MOST_PATTERNS} patterns of names.")
        names = [self._names(part) for part in facets.names]
        opens = any(_opens(members) for members in facets.members)
        ways: list[Expression] = []
        for found in itertools.product((True, False), repeat=len(distinct)):
            if not any(found) and distinct and not opens:
                continue
            met = {pattern for pattern, is_found in zip(distinct, found, strict=True) if is_found}
            parts: list[Part] = []
            for members in facets.members:
                own = [part for pattern, _, part in members.patterns if pattern in met]
                parts += own or ([] if members.others is None else [members.others])
            if any(part.schema is False for part in parts):
                continue
            wanted = tuple((pattern, at) for pattern, at in distinct.items() if pattern in met)
            unlike = tuple((pattern, at) for pattern, at in distinct.items() if pattern not in met)
            for combined in itertools.product(*names):
                name = StringFacets(patterns=wanted, unlike=unlike, excluded=listed)
                for each in combined:
                    name = name.merged(each)
                written = self._texts.string(name, KEYS)
                if written != NEVER:
                    ways.append(chain(written, _COLON, self._value(_state(parts))))
        return either(ways) if ways else None

    def _names(self, part: Part) -> tuple[StringFacets, ...]:
        alternatives = self._shapes.of(part).get("string", ())
        strings = [each for each in alternatives if isinstance(each, StringFacets)]
        if any(each.values is not None or each.avoid for each in strings):
            raise UnsupportedError(part.at, "beside other names its values cannot be held.")
        return tuple(strings)

    # --- alternatives that must not overlap

    def _check_apart(self, state: State, kind: str, facets: Facets, part: Part) -> None:
        """Raise unless nothing of what `facets` let through is valid by `part`, another schema of the same oneOf."""
        for other in self._shapes.of(part).get(kind, ()):  # type: ignore[call-overload]  # a Kind
            if not self._apart(state, facets, other, part):
                at = part.at.rpartition(".oneOf[")[0]
                raise UnsupportedError(
                    joined(at, "oneOf") if at else "oneOf",
                    "its schemas may overlap, and answers cannot be held to exactly one of them; use 'anyOf', or a "
                    "required property with another 'const' in each.",
                )

    def _apart(self, state: State, facets: Facets, other: Facets, part: Part) -> bool:
        if other.values is not None:
            return not self._valid(other.values, (*state, part))
        both = facets.merged(other)
        if is_void(both):
            return True
        match facets, both, other:
            case ObjectFacets(), ObjectFacets(), ObjectFacets():
                return self._objects_apart(facets, both, other)
            case ArrayFacets(), ArrayFacets(), ArrayFacets():
                return any(self._is_never(self._item(both, index), 0) for index in range(both.least))
            case StringFacets(), StringFacets(), StringFacets():
                if other.formats:
                    return False
                return self._texts.is_empty(both)
            case _:
                return False

    def _objects_apart(self, facets: ObjectFacets, both: ObjectFacets, other: ObjectFacets) -> bool:
        names, extras = self._members(facets)
        if extras is None and any(name not in names for name in both.required):
            return True
        return any(self._is_never(self._member(both, name), 0) for name in both.required)

    def _is_never(self, state: State, depth: int) -> bool:
        """Whether it is certain that no value is valid by all schemas of a state."""
        if state not in self._never:
            if depth > _DEEPEST_LOOK:
                return False
            self._never[state] = False  # what leads back to itself is not looked at again
            self._never[state] = all(
                self._has_none(state, facets, depth)
                for alternatives in self._shapes.of_all(state).values()
                for facets in alternatives
            )
        return self._never[state]

    def _has_none(self, state: State, facets: Facets, depth: int) -> bool:
        if facets.values is not None:
            return not self._valid(facets.values, state)
        if is_void(facets):
            return True
        if isinstance(facets, ObjectFacets):
            return any(self._is_never(self._member(facets, name), depth + 1) for name in facets.required)
        if isinstance(facets, ArrayFacets):
            return any(self._is_never(self._item(facets, index), depth + 1) for index in range(min(facets.least, 8)))
        return False


def _state(parts: Iterable[Part]) -> State:
    """Schemas of one value, each once, without those that allow everything."""
    return tuple(dict.fromkeys(part for part in parts if part.schema is not True and part.schema != {}))


def _opens(members: Members) -> bool:
    """Whether a schema says that an object may have properties beside those it lists."""
    return members.others is not None and members.others.schema is not False


def _listed(item: Expression, least: int, most: int | None, *, first: bool) -> Expression:
    """Items with commas; `first`: none goes before them."""
    least = max(least, 0)
    if most is not None and most < least:
        return NEVER
    more = chain(_COMMA, item)
    if not first:
        return repeat(more, least, most)
    if most == 0:
        return EMPTY
    one = chain(item, repeat(more, max(least - 1, 0), None if most is None else most - 1))
    return one if least else optional(one)
