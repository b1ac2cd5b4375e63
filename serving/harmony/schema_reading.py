"""Reading of a JSON schema, one level at a time, with references followed and `allOf` put together.

`$ref` within the schema, `allOf` and unions with null are how generators of schemas (pydantic, zod) write what a type
shown to a model must not lose. A reference is replaced by what it leads to; one that leads back to itself gets a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from serving.errors import InvalidValueError
from serving.harmony import json_values
from serving.harmony.schema_types import with_json_types

Schema = dict[str, Any]

NAMED = "$named"
"""Keyword of a schema that stands for a named type; put in place of references that lead back to themselves."""

_MOST_PARTS = 20_000
_MOST_WORK = 4_000_000
"""Characters read behind references, and keywords compared and copied: about 0.2 s in all."""
_MOST_STEPS = 2 * json_values.MAX_DEPTH
_TYPING = frozenset(
    [NAMED, "type", "enum", "const", "properties", "additionalProperties", "patternProperties", "items", "prefixItems"]
)


@dataclass(frozen=True, slots=True)
class Node:
    """Schema without `$ref` and `allOf`, and where it stands.

    `inner_description` is what a reference's target says of itself where the reference has a description of its own;
    `nullable` tells that null is one of the values.
    """

    schema: Schema
    path: tuple[str | int, ...]
    inner_description: str | None = None
    nullable: bool = False


class SchemaReader:
    """Reader of one schema, from `root` on. Raises InvalidValueError for what leads nowhere or is too large to show.

    Keywords with values of a wrong kind count as absent. `taken` are names that types may not have; those given here
    are added. `named` has the pointers that were met and have a name, in order.
    """

    def __init__(self, schema: Schema, place: str, taken: set[str]) -> None:
        json_values.check(schema, place)
        schema = with_json_types(schema, place)
        self._schema = schema
        self._place = place
        self._taken = taken
        self._parts = self._work = 0
        self._circular = self._circular_references()
        self.named: dict[str, str] = {}
        self.root = self._read(Node(schema, (place,)))

    def part(self, node: Node, schema: Any, *steps: str | int) -> Node:
        """Return the node of `schema`, found in `node` by `steps`. Anything but a schema means any value, as true."""
        if schema is False:
            schema = {"type": "never"}
        return self._read(Node(schema if isinstance(schema, dict) else {}, (*node.path, *steps)))

    def definition(self, pointer: str) -> Node:
        """Return the node of a name in `named`."""
        return self._read(Node(self._target(pointer, self.root), (self._place, pointer)))

    def alternatives(self, node: Node) -> list[Node]:
        """Return the alternatives of `oneOf` or `anyOf`, each with the types that stand beside them; [] for none.

        Those that say nothing but which properties go together are no alternatives to show.
        """
        keyword = "oneOf" if "oneOf" in node.schema else "anyOf"
        variants = node.schema.get(keyword)
        if not isinstance(variants, list):
            return []
        beside = {key: node.schema[key] for key in node.schema if key in _TYPING or key == "required"}
        parts = [self.part(node, variant, keyword, index) for index, variant in enumerate(variants)]
        if _TYPING & beside.keys() and not any(_says_a_type(part.schema) for part in parts):
            return []
        return [replace(part, schema=self._merged(part.schema, beside)) for part in parts]

    def _read(self, node: Node) -> Node:
        self._parts += 1
        if self._parts > _MOST_PARTS or len(node.path) > _MOST_STEPS:
            raise self._too_large()
        node = self._without_null(self._plain(node))
        return replace(node, nullable=node.nullable or node.schema.get("nullable") is True)

    def _plain(self, node: Node) -> Node:
        """`node` with references followed and `allOf` put together."""
        while True:
            schema = node.schema
            reference, parts = schema.get("$ref"), schema.get("allOf")
            if isinstance(reference, str):
                target = self._target(reference, node)
                beside = {key: value for key, value in schema.items() if key != "$ref"}
                if reference in self._circular:
                    return replace(node, schema={**beside, NAMED: self._name(reference)})
                self._charge(len(json_values.compact(target)))
                node = self._joined(replace(node, schema=beside), target)
            elif isinstance(parts, list) and parts:
                node = replace(node, schema={key: value for key, value in schema.items() if key != "allOf"})
                for index, part in enumerate(parts):
                    node = self._joined(node, self.part(node, part, "allOf", index).schema)
            else:
                return node

    def _without_null(self, node: Node) -> Node:
        """A union of null and one other schema as that other schema, nullable."""
        keyword = "oneOf" if "oneOf" in node.schema else "anyOf"
        variants = node.schema.get(keyword)
        if not isinstance(variants, list) or not any(_is_null(variant) for variant in variants):
            return node
        others = [index for index, variant in enumerate(variants) if not _is_null(variant)]
        beside = {key: value for key, value in node.schema.items() if key != keyword}
        if len(others) == 1:
            other = self.part(node, variants[others[0]], keyword, others[0])
            return replace(self._joined(replace(other, schema=beside), other.schema), path=node.path, nullable=True)
        if not others:
            return replace(node, schema={**beside, "type": "null"})
        return replace(node, schema={**beside, "anyOf": [variants[index] for index in others]}, nullable=True)

    def _target(self, reference: str, node: Node) -> Schema:
        target = _followed(reference, self._schema)
        if target is None:
            place = json_values.joined((*node.path, "$ref"))
            raise InvalidValueError(
                f"{place:.200} leads nowhere: {reference!r:.100} is no schema within this one.", param=place
            )
        return target

    def _name(self, reference: str) -> str:
        if reference not in self.named:
            stem = re.sub(r"\W+", "_", unquote(reference).rsplit("/", 1)[-1]).strip("_") or "Arguments"
            name, count = stem, 1
            while name in self._taken:
                count += 1
                name = f"{stem}{count}"
            self._taken.add(name)
            self.named[reference] = name
        return self.named[reference]

    def _joined(self, node: Node, schema: Schema) -> Node:
        """`node` with what `schema` adds to its own schema."""
        own, inner = node.schema.get("description"), schema.get("description")
        overridden = own is not None and inner != own and isinstance(inner, str)
        return replace(
            node,
            schema=self._merged(node.schema, schema),
            inner_description=inner if overridden else node.inner_description,
        )

    def _merged(self, first: Schema, second: Schema) -> Schema:
        """Both schemas' keywords; `first` goes first where both have one that cannot be put together."""
        merged = {**second, **first}
        own, other = first.get("properties"), second.get("properties")
        if isinstance(own, dict) and isinstance(other, dict):
            self._charge(len(own) + len(other))
            merged["properties"] = {**other, **own}
        own, other = first.get("required"), second.get("required")
        if isinstance(own, list) and isinstance(other, list):
            self._charge(len(own) + len(other))
            merged["required"] = [*other, *own]
        self._charge(len(merged))
        return merged

    def _circular_references(self) -> set[str]:
        """The references in the schema that lead back to themselves, and those between such."""
        leads_to: dict[str, set[str]] = {}
        unread = self._references(self._schema)
        while unread:
            reference = unread.pop()
            leads_to[reference] = self._references(_followed(reference, self._schema))
            unread |= leads_to[reference] - leads_to.keys()
        comes_from: dict[str, set[str]] = {reference: set() for reference in leads_to}
        for reference, following in leads_to.items():
            for other in following:
                comes_from[other].add(reference)
        return leads_to.keys() - _lead_nowhere(leads_to) - _lead_nowhere(comes_from)

    def _references(self, value: Any) -> set[str]:
        """Every reference in a part of the schema."""
        found: set[str] = set()
        unread = [value]
        while unread:
            value = unread.pop()
            if isinstance(value, dict):
                if isinstance(value.get("$ref"), str):
                    found.add(value["$ref"])
                value = list(value.values())
            if isinstance(value, list | tuple):
                self._charge(4 * len(value))
                unread += value
        return found

    def _charge(self, work: int) -> None:
        self._work += work
        if self._work > _MOST_WORK:
            raise self._too_large()

    def _too_large(self) -> InvalidValueError:
        return InvalidValueError(
            f"{self._place} is too large to show to the model once its references are followed: it may have "
            f"{_MOST_PARTS} parts and {json_values.MAX_DEPTH} levels.",
            param=self._place,
        )


def _followed(reference: str, schema: Schema) -> Schema | None:
    """What a reference, a JSON pointer into the whole schema, leads to; None where that is no schema."""
    head, *steps = unquote(reference).split("/")
    target: Any = schema if head == "#" else None
    for step in steps:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict):
            target = target.get(step)
        else:
            target = target[int(step)] if isinstance(target, list) and step in map(str, range(len(target))) else None
    return {} if target is True else target if isinstance(target, dict) else None


def _lead_nowhere(leads_to: dict[str, set[str]]) -> set[str]:
    """The nodes of a graph from which every way ends."""
    came_from: dict[str, list[str]] = {node: [] for node in leads_to}
    for node, following in leads_to.items():
        for other in following:
            came_from[other].append(node)
    open_ways = {node: len(following) for node, following in leads_to.items()}
    ends = [node for node, ways in open_ways.items() if not ways]
    for end in ends:  # grows as it is read
        for node in came_from[end]:
            open_ways[node] -= 1
            if not open_ways[node]:
                ends.append(node)
    return set(ends)


def _says_a_type(schema: Schema) -> bool:
    return not _TYPING.isdisjoint(schema) or "oneOf" in schema or "anyOf" in schema


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "null" or schema.get("const", 0) is None)
