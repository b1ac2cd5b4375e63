"""Schemas as shapes: the values that a schema allows, by JSON type, as alternatives of facets.

Everything in place is merged here: `$ref` and what stands beside it, `allOf`, `anyOf`, `oneOf`, `not`, `if` and the
dependent keywords. A keyword that a shape cannot have raises UnsupportedError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import referencing.exceptions
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import specification_with

from serving.schemas import formats
from serving.schemas.facets import (
    FREE,
    KINDS,
    ArrayFacets,
    Facets,
    Items,
    Kind,
    Literally,
    Members,
    NumberFacets,
    ObjectFacets,
    Part,
    Shape,
    StringFacets,
)
from serving.schemas.keywords import REFUSED, TOLD
from serving.schemas.numbers import NumberLimits
from serving.schemas.places import joined
from serving.schemas.problems import InvalidError, UnsupportedError, Work

MOST_ALTERNATIVES = 256
_MOST_REFERENCES = 60
_NOTHING_BETWEEN = "it refers to itself with nothing in between."
_MEANT: dict[str, Kind] = {
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties"), "object"),
    **dict.fromkeys(("items", "prefixItems"), "array"),
    **dict.fromkeys(("pattern", "minLength", "maxLength"), "string"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
}
_OF_KIND: dict[str, Kind] = {"integer": "number", **{kind: kind for kind in KINDS}}


class Shapes:
    """Shapes of one document's schemas. `validator` is jsonschema's, of the whole document and its draft."""

    def __init__(self, validator: Validator, places: dict[int, str], work: Work) -> None:
        self._work = work
        self._validator: Any = validator
        self._places = places
        self._draft = str(validator.META_SCHEMA["$schema"])
        self._shapes: dict[Part, Shape | None] = {}
        self._made: dict[int, Part] = {}
        self._depth = 0
        resource = specification_with(self._draft).create_resource(validator.schema)
        self.root = self._part(validator.schema, "", Registry().resolver_with_root(resource))

    def allows(self, part: Part, value: Any) -> bool:
        """Whether jsonschema finds a value valid by a schema."""
        self._work.take(10)
        return bool(self._validator.evolve(schema=part.schema, _resolver=part.resolver).is_valid(value))

    def of(self, part: Part) -> Shape:
        """The shape of a schema."""
        if part in self._shapes:
            shape = self._shapes[part]
            if shape is None:
                raise InvalidError(part.at, _NOTHING_BETWEEN)
            return shape
        self._shapes[part] = None
        self._depth += 1
        try:
            if self._depth > _MOST_REFERENCES:
                raise UnsupportedError(part.at, f"it refers through more than {_MOST_REFERENCES} schemas.")
            shape = self._shapes[part] = self._made_shape(part)
        finally:
            self._depth -= 1
        return shape

    def of_all(self, parts: Iterable[Part]) -> Shape:
        """The shape of a value that several schemas speak of."""
        shape: Shape = {kind: (facets,) for kind, facets in FREE.items()}
        for part in parts:
            shape = _merged(shape, self.of(part), part.at, self._work)
        return shape

    def meant(self, part: Part, depth: int = 0) -> frozenset[Kind]:
        """Types that a schema without `type` speaks of: `properties` means objects, though other values are valid."""
        schema = part.schema
        if not isinstance(schema, dict) or not {"type", "enum", "const"}.isdisjoint(schema) or depth > _MOST_REFERENCES:
            return frozenset()
        kinds = frozenset(_MEANT[keyword] for keyword in schema if keyword in _MEANT)
        if kinds:
            return kinds
        if "$ref" in schema:
            kinds |= self.meant(self._target(part), depth + 1)
        parts = [self.child(part, "allOf", index) for index in range(len(schema.get("allOf", ())))]
        kinds = kinds.union(*(self.meant(each, depth + 1) for each in parts))
        for keyword in ("anyOf", "oneOf"):
            each = [
                self.meant(self.child(part, keyword, index), depth + 1) for index in range(len(schema.get(keyword, ())))
            ]
            kinds = kinds.union(*each) if all(each) else kinds
        return kinds

    def made(self, schema: Any, part: Part, at: str) -> Part:
        """A schema that is not in the document, in the place of `part`."""
        made = self._part(schema, at, part.resolver)
        self._made[id(schema)] = made
        return made

    def child(self, part: Part, *steps: str | int) -> Part:
        """The schema found in `part` by `steps`."""
        schema, at = part.schema, part.at
        for step in steps:
            schema, at = schema[step], joined(at, step)
        resolver = part.resolver
        if isinstance(schema, dict) and "$id" in schema:
            resolver = self._inside(resolver, schema)
        return self._part(schema, at, resolver)

    def _inside(self, resolver: Any, schema: dict[str, Any]) -> Any:
        return resolver.in_subresource(specification_with(self._draft).create_resource(schema))

    def _part(self, schema: Any, at: str, resolver: Any) -> Part:
        return Part(int(schema) if isinstance(schema, bool) else id(schema), schema, at, resolver)

    def _target(self, part: Part) -> Part:
        """Schema that a reference leads to, through references that stand alone."""
        met = {part}
        while True:
            part = self._next_target(part)
            schema = part.schema
            if not isinstance(schema, dict) or "$ref" not in schema or schema.keys() - TOLD != {"$ref"}:
                return part
            if part in met:
                raise InvalidError(part.at, _NOTHING_BETWEEN)
            met.add(part)

    def _next_target(self, part: Part) -> Part:
        reference = part.schema["$ref"]
        at = joined(part.at, "$ref")
        try:
            resolved = part.resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError) as error:
            raise InvalidError(at, f"'{reference[:80]}' leads to no schema within this one.") from error
        contents = resolved.contents
        known = isinstance(contents, bool) or id(contents) in self._places
        if not known and not (isinstance(contents, dict) and self._is_schema(contents)):
            raise InvalidError(at, f"'{reference[:80]}' leads to no schema; put it under $defs.")
        place = self._places.get(id(contents), reference.removeprefix("#/").replace("/", "."))
        return self._part(contents, place, resolved.resolver)

    def _is_schema(self, contents: dict[str, Any]) -> bool:
        self._work.take(1000)
        return bool(type(self._validator)(self._validator.META_SCHEMA).is_valid(contents))

    # --- one schema

    def _made_shape(self, part: Part) -> Shape:
        schema = part.schema
        if schema is True:
            return {kind: (facets,) for kind, facets in FREE.items()}
        if schema is False:
            return {}
        for keyword, why in REFUSED.items():
            if keyword in schema:
                raise UnsupportedError(joined(part.at, keyword), why)
        shape = self._own(part)
        for other, at in self._beside(part):
            shape = _merged(shape, other, at, self._work)
        return self._unevaluated(part, shape)

    def _beside(self, part: Part) -> Iterator[tuple[Shape, str]]:
        """The shapes of what stands in one schema and speaks of the same value."""
        schema = part.schema
        if "$ref" in schema:
            yield self.of(self._target(part)), joined(part.at, "$ref")
        for index in range(len(schema.get("allOf", ()))):
            yield self.of(self.child(part, "allOf", index)), joined(part.at, "allOf")
        if "anyOf" in schema:
            at = joined(part.at, "anyOf")
            branches = [self.child(part, "anyOf", index) for index in range(len(schema["anyOf"]))]
            yield _either((self.of(branch) for branch in branches), at), at
        if "oneOf" in schema:
            yield self._one_of(part), joined(part.at, "oneOf")
        if "not" in schema:
            at = joined(part.at, "not")
            yield self._negated(self.child(part, "not"), at), at
        if "if" in schema:
            yield from self._conditional(part)
        yield from self._dependent(part)

    def _one_of(self, part: Part) -> Shape:
        at = joined(part.at, "oneOf")
        branches = [self.child(part, "oneOf", index) for index in range(len(part.schema["oneOf"]))]
        shapes = []
        for branch in branches:
            others = tuple(each for each in branches if each is not branch)
            shape: Shape = {}
            for kind, alternatives in self.of(branch).items():
                met = tuple(each for each in others if kind in self.of(each))
                shape[kind] = tuple(facets.merged(type(facets)(avoid=met)) for facets in alternatives)
            shapes.append(shape)
        return _either(shapes, at)

    def _conditional(self, part: Part) -> Iterator[tuple[Shape, str]]:
        schema, at = part.schema, joined(part.at, "if")
        condition = self.child(part, "if")
        self.of(condition)
        if "then" not in schema and "else" not in schema:
            return
        holds, fails = self.of(condition), self._negated(condition, at)
        if "then" in schema:
            holds = _merged(holds, self.of(self.child(part, "then")), at, self._work)
        if "else" in schema:
            fails = _merged(fails, self.of(self.child(part, "else")), at, self._work)
        yield _either((holds, fails), at), at

    def _dependent(self, part: Part) -> Iterator[tuple[Shape, str]]:
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, needed in part.schema.get(keyword, {}).items():
                at = joined(joined(part.at, keyword), name)
                if isinstance(needed, list):
                    then: Shape = {"object": (ObjectFacets(required=(name, *needed)),)}
                else:
                    shape = self.of(self.child(part, keyword, name))
                    then = _merged({"object": (ObjectFacets(required=(name,)),)}, shape, at, self._work)
                absent: Shape = {"object": (self._without(part, name, at),)}
                free: Shape = {kind: (FREE[kind],) for kind in KINDS if kind != "object"}
                yield _either((then, absent, free), at), at

    def _without(self, part: Part, name: str, at: str) -> ObjectFacets:
        return ObjectFacets(members=(Members(named=((name, self._part(False, at, part.resolver)),)),))

    def _unevaluated(self, part: Part, shape: Shape) -> Shape:
        """`shape` with what `unevaluatedProperties` and `unevaluatedItems` say of what nothing else speaks of."""
        schema = part.schema
        if "unevaluatedProperties" in schema and "object" in shape:
            others = self.child(part, "unevaluatedProperties")
            shape = shape | {"object": tuple(self._no_more_members(part, each, others) for each in shape["object"])}
        if "unevaluatedItems" in schema and "array" in shape:
            others = self.child(part, "unevaluatedItems")
            shape = shape | {"array": tuple(self._no_more_items(part, each, others) for each in shape["array"])}
        return shape

    def _no_more_members(self, part: Part, facets: Facets, others: Part) -> Facets:
        assert isinstance(facets, ObjectFacets)
        if any(members.others is not None for members in facets.members):
            return facets
        free = self._part(True, part.at, part.resolver)
        named = dict.fromkeys(name for members in facets.members for name, _ in members.named)
        patterns = dict.fromkeys(pattern[:2] for members in facets.members for pattern in members.patterns)
        members = Members(tuple((name, free) for name in named), tuple((*each, free) for each in patterns), others)
        return facets.merged(ObjectFacets(members=(members,)))

    def _no_more_items(self, part: Part, facets: Facets, others: Part) -> Facets:
        assert isinstance(facets, ArrayFacets)
        if any(items.rest is not None for items in facets.items):
            return facets
        if facets.contains:
            raise UnsupportedError(joined(part.at, "unevaluatedItems"), "it cannot be held beside 'contains'.")
        free = self._part(True, part.at, part.resolver)
        longest = max((len(items.prefix) for items in facets.items), default=0)
        return facets.merged(ArrayFacets(items=(Items((free,) * longest, others),)))

    # --- a schema's own keywords

    def _own(self, part: Part) -> Shape:
        schema = part.schema
        named = schema.get("type", [])
        listed = [named] if isinstance(named, str) else named
        kinds = dict.fromkeys(_OF_KIND[each] for each in listed) if "type" in schema else dict.fromkeys(KINDS)
        shape: Shape = {}
        for kind in kinds:
            facets = self._own_facets(part, kind)
            if kind == "number" and "type" in schema and "number" not in listed:
                facets = facets.merged(NumberFacets(limits=NumberLimits(whole=True)))
            shape[kind] = (facets,)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        return shape if values is None else _limited_to(values, shape)

    def _own_facets(self, part: Part, kind: Kind) -> Facets:
        match kind:
            case "number":
                return NumberFacets(limits=self._numbers(part))
            case "string":
                return self._strings(part)
            case "array":
                return self._arrays(part)
            case "object":
                return self._objects(part)
            case _:
                return FREE[kind]

    def _numbers(self, part: Part) -> NumberLimits:
        schema = part.schema
        limits = NumberLimits()
        low, high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if low is not None:
            limits = limits.merged(NumberLimits(low=low, above=above is True))
        if high is not None:
            limits = limits.merged(NumberLimits(high=high, below=below is True))
        if above is not None and not isinstance(above, bool):
            limits = limits.merged(NumberLimits(low=above, above=True))
        if below is not None and not isinstance(below, bool):
            limits = limits.merged(NumberLimits(high=below, below=True))
        if "multipleOf" in schema:
            step = schema["multipleOf"]
            if int(step) != step:
                raise UnsupportedError(
                    joined(part.at, "multipleOf"), "answers are held to multiples of whole numbers alone."
                )
            limits = limits.merged(NumberLimits(whole=True, multiple_of=int(step)))
        bounds = formats.OF_NUMBERS.get(str(schema.get("format")))
        return limits if bounds is None else limits.merged(NumberLimits(low=bounds[0], high=bounds[1]))

    def _strings(self, part: Part) -> StringFacets:
        schema = part.schema
        form, at = schema.get("format"), joined(part.at, "format")
        facets = StringFacets(least=_count(schema, "minLength") or 0, most=_count(schema, "maxLength"))
        if "pattern" in schema:
            facets = facets.merged(StringFacets(patterns=((schema["pattern"], joined(part.at, "pattern")),)))
        if form in formats.HELD:
            return facets.merged(StringFacets(formats=((form, at),)))
        if form is None or form in formats.SILENT or form in formats.OF_NUMBERS:
            return facets
        if "type" in schema and "string" not in schema["type"]:
            return facets
        raise UnsupportedError(
            at, f"answers cannot be held to this format; use one of {', '.join(sorted(formats.HELD))}."
        )

    def _arrays(self, part: Part) -> ArrayFacets:
        schema = part.schema
        facets = ArrayFacets(least=_count(schema, "minItems") or 0, most=_count(schema, "maxItems"))
        prefix: tuple[Part, ...] = ()
        rest = None
        if isinstance(schema.get("items"), list):
            prefix = tuple(self.child(part, "items", index) for index in range(len(schema["items"])))
            rest = self.child(part, "additionalItems") if "additionalItems" in schema else None
        else:
            if "prefixItems" in schema and not self._lists_are_tuples_here():
                prefix = tuple(self.child(part, "prefixItems", i) for i in range(len(schema["prefixItems"])))
            rest = self.child(part, "items") if "items" in schema else None
        if prefix or rest is not None:
            facets = facets.merged(ArrayFacets(items=(Items(prefix, rest),)))
        if schema.get("uniqueItems") is True:
            facets = facets.merged(ArrayFacets(unique=joined(part.at, "uniqueItems")))
        if "contains" in schema:
            if "maxContains" in schema:
                raise UnsupportedError(joined(part.at, "maxContains"), "answers cannot be held to it.")
            least = _count(schema, "minContains")
            wanted = 1 if least is None else least
            if wanted:
                facets = facets.merged(ArrayFacets(contains=((self.child(part, "contains"), wanted),)))
        return facets

    def _lists_are_tuples_here(self) -> bool:
        """Whether the draft's tuples are lists under `items`, and it does not know `prefixItems`."""
        return "2020-12" not in self._draft

    def _objects(self, part: Part) -> ObjectFacets:
        schema = part.schema
        facets = ObjectFacets(
            required=tuple(schema.get("required", ())),
            least=_count(schema, "minProperties") or 0,
            most=_count(schema, "maxProperties"),
            least_at=joined(part.at, "minProperties"),
            names=(self.child(part, "propertyNames"),) if "propertyNames" in schema else (),
        )
        if not {"properties", "patternProperties", "additionalProperties"}.isdisjoint(schema):
            named = tuple((name, self.child(part, "properties", name)) for name in schema.get("properties", ()))
            patterns = tuple(
                (
                    pattern,
                    joined(joined(part.at, "patternProperties"), pattern),
                    self.child(part, "patternProperties", pattern),
                )
                for pattern in schema.get("patternProperties", ())
            )
            others = self.child(part, "additionalProperties") if "additionalProperties" in schema else None
            facets = facets.merged(ObjectFacets(members=(Members(named, patterns, others),)))
        return facets

    # --- negation

    def _negated(self, part: Part, at: str) -> Shape:
        """The values that a schema does not allow; `at` is the keyword that asks for it."""
        schema = part.schema
        if isinstance(schema, bool):
            return {} if schema else {kind: (facets,) for kind, facets in FREE.items()}
        self._depth += 1
        try:
            if self._depth > _MOST_REFERENCES:
                raise UnsupportedError(at, "it refers through too many schemas.")
            return _either(self._broken(part, at), at)
        finally:
            self._depth -= 1

    def _broken(self, part: Part, at: str) -> Iterator[Shape]:
        """The shapes of what each keyword of a schema does not allow."""
        schema = part.schema
        for keyword, value in schema.items():
            match keyword:
                case "$ref":
                    yield self._negated(self._target(part), at)
                case "allOf":
                    for index in range(len(value)):
                        yield self._negated(self.child(part, keyword, index), at)
                case "anyOf":
                    shape: Shape = {kind: (facets,) for kind, facets in FREE.items()}
                    for index in range(len(value)):
                        shape = _merged(shape, self._negated(self.child(part, keyword, index), at), at, self._work)
                    yield shape
                case "not":
                    yield self.of(self.child(part, keyword))
                case "type":
                    listed = [value] if isinstance(value, str) else value
                    if "integer" in listed and "number" not in listed:
                        raise self._cannot_negate(at, "the type 'integer'")
                    yield {kind: (FREE[kind],) for kind in KINDS if kind not in listed}
                case "const":
                    yield self._but([value], at)
                case "enum":
                    yield self._but(value, at)
                case "required":
                    for name in value:
                        yield {"object": (self._without(part, name, at),)}
                case "properties":
                    for name in value:
                        inner = self.made({"not": value[name]}, self.child(part, keyword, name), at)
                        members = Members(named=((name, inner),))
                        yield {"object": (ObjectFacets(members=(members,), required=(name,)),)}
                case _ if keyword in _BOUNDS:
                    yield self._beyond(keyword, value, part, at)
                case _ if keyword not in TOLD:
                    raise self._cannot_negate(at, f"'{keyword[:40]}'")

    def _cannot_negate(self, at: str, what: str) -> UnsupportedError:
        return UnsupportedError(at, f"answers cannot be held to the contrary of {what}.")

    def _beyond(self, keyword: str, value: Any, part: Part, at: str) -> Shape:
        if isinstance(value, bool):
            raise self._cannot_negate(at, f"'{keyword}'")
        match keyword:
            case "minimum":
                if part.schema.get("exclusiveMinimum") is True:
                    raise self._cannot_negate(at, f"'{keyword}'")
                return {"number": (NumberFacets(limits=NumberLimits(high=value, below=True)),)}
            case "exclusiveMinimum":
                return {"number": (NumberFacets(limits=NumberLimits(high=value)),)}
            case "maximum":
                if part.schema.get("exclusiveMaximum") is True:
                    raise self._cannot_negate(at, f"'{keyword}'")
                return {"number": (NumberFacets(limits=NumberLimits(low=value, above=True)),)}
            case "exclusiveMaximum":
                return {"number": (NumberFacets(limits=NumberLimits(low=value)),)}
            case "minLength":
                return {"string": (StringFacets(most=int(value) - 1),)} if value else {}
            case "maxLength":
                return {"string": (StringFacets(least=int(value) + 1),)}
            case "minItems":
                return {"array": (ArrayFacets(most=int(value) - 1),)} if value else {}
            case "maxItems":
                return {"array": (ArrayFacets(least=int(value) + 1),)}
            case "maxProperties":
                return {"object": (ObjectFacets(least=int(value) + 1, least_at=at),)}
            case "minProperties":
                return {"object": (ObjectFacets(most=int(value) - 1),)} if value else {}
            case _:
                return {"string": (StringFacets(unlike=((value, joined(part.at, "pattern")),)),)}

    def _but(self, values: list[Any], at: str) -> Shape:
        """All values but these."""
        shape: Shape = {kind: (facets,) for kind, facets in FREE.items()}
        for value in values:
            kind = kind_of(value)
            match kind:
                case "string":
                    others: tuple[Facets, ...] = (StringFacets(excluded=(value,)),)
                case "null":
                    others = ()
                case "boolean":
                    others = (Facets(values=(literally(not value),)),)
                case "number":
                    below, above = NumberLimits(high=value, below=True), NumberLimits(low=value, above=True)
                    others = (NumberFacets(limits=below), NumberFacets(limits=above))
                case _:
                    raise self._cannot_negate(at, f"an {kind}")
            shape = _merged(
                shape, {each: (FREE[each],) for each in KINDS if each != kind} | {kind: others}, at, self._work
            )
        return shape


_BOUNDS = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
    )
)


def kind_of(value: Any) -> Kind:
    """The JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def literally(value: Any) -> Literally:
    """A value to be written as it is."""
    return Literally(json.dumps(value, ensure_ascii=False, separators=(",", ":")), value)


def _limited_to(values: list[Any], shape: Shape) -> Shape:
    by_kind: dict[Kind, dict[str, Literally]] = {}
    for value in values:
        written = literally(value)
        by_kind.setdefault(kind_of(value), {})[written.text] = written
    return {
        kind: tuple(each.merged(type(each)(values=tuple(by_kind[kind].values()))) for each in alternatives)
        for kind, alternatives in shape.items()
        if kind in by_kind
    }


def _count(schema: dict[str, Any], keyword: str) -> int | None:
    value = schema.get(keyword)
    return None if value is None else int(value)


def _merged(first: Shape, second: Shape, at: str, work: Work) -> Shape:
    """The values of both shapes."""
    shape: Shape = {}
    for kind in first:
        if kind not in second:
            continue
        work.take(len(first[kind]) * len(second[kind]))
        pairs = ((one, other) for one in first[kind] for other in second[kind])
        alternatives: dict[Facets, None] = {}
        for one, other in pairs:
            if one == FREE[kind] or other == FREE[kind]:
                both = other if one == FREE[kind] else one
            else:
                both = one.merged(other)
            if not is_void(both):
                alternatives[both] = None
            if len(alternatives) > MOST_ALTERNATIVES:
                _too_many(at)
        if alternatives:
            shape[kind] = tuple(alternatives)
    return shape


def _either(shapes: Iterable[Shape], at: str) -> Shape:
    """The values of any of the shapes."""
    merged: dict[Kind, dict[Facets, None]] = {}
    for shape in shapes:
        for kind, alternatives in shape.items():
            known = merged.setdefault(kind, {})
            known.update(dict.fromkeys(alternatives))
            if len(known) > MOST_ALTERNATIVES:
                _too_many(at)
    # One alternative that says nothing makes the others needless.
    return {kind: (FREE[kind],) if FREE[kind] in known else tuple(known) for kind, known in merged.items()}


def is_void(facets: Facets) -> bool:
    """Whether bounds alone leave no value."""
    match facets:
        case NumberFacets():
            return facets.limits.is_empty
        case StringFacets() | ArrayFacets() | ObjectFacets():
            return facets.most is not None and facets.most < facets.least
        case _:
            return facets.values == ()


def _too_many(at: str) -> NoReturn:
    raise UnsupportedError(at, f"put together its alternatives make more than {MOST_ALTERNATIVES} forms.")
