"""JSON schemas as the TypeScript types that gpt-oss was trained to read.

The layout is oss-harmony's, token for token, wherever that says what the schema says. It shows `$ref`, `anyOf`,
`allOf`, `const`, enums of numbers, maps and tuples as `any` or drops them, writes arrays of unions without parentheses,
and leaves limits (minimum, format, ...) out; here each has its TypeScript, and limits are comments as defaults are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from serving.harmony.json_values import compact
from serving.harmony.schema_reading import NAMED, Node, Schema, SchemaReader

_BARE_KEY = re.compile(r"[^\s\"'`{}()\[\],:;?|&<>\\]+")
_LIMITS = (
    *("format", "pattern", "minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    *("multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
)
_BOUNDS = frozenset(["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "maxLength", "maxItems"])
_SAFE_INTEGER = 2**53 - 1
_SCALARS = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
    "never": "never",
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """Render a function's `argument` as a type, None where it takes none, and the named types that occur in it."""

    argument: str | None
    named: dict[str, str]


def parameters(schema: Schema, place: str, taken: set[str]) -> Parameters:
    """Render the types of a function's parameters. `taken` are names its types may not have; those given are added.

    Raises InvalidValueError, with the place within `place` in `param`, for references that lead nowhere, for what is no
    JSON, and for schemas that are too large.
    """
    reader = SchemaReader(schema, place, taken)
    if _is_empty(reader.root.schema):
        return Parameters(None, {})
    types = _Types(reader)
    argument = types.of(reader.root)
    named: dict[str, str] = {}
    while len(named) < len(reader.named):
        pointer, name = list(reader.named.items())[len(named)]
        named[name] = types.of(reader.definition(pointer))
    return Parameters(argument, named)


def _is_empty(schema: Schema) -> bool:
    """True for an object that has no properties and about which nothing is said."""
    silent = {"type", "properties", "required", "additionalProperties", "title", "$schema", "$defs", "definitions"}
    return (
        schema.keys() <= silent
        and schema.get("type") == "object"
        and not (schema.get("properties") or schema.get("additionalProperties"))
    )


class _Types:
    """Renderer of one schema's types; `indent` is that of the lines within the type."""

    def __init__(self, reader: SchemaReader) -> None:
        self._reader = reader

    def of(self, node: Node) -> str:
        """A type at the outermost level."""
        text = self._type(node, "")
        return text + "\n" if " // " in text.rsplit("\n", 1)[-1] else text

    def _type(self, node: Node, indent: str) -> str:
        variants = self._reader.alternatives(node)
        if variants and "oneOf" in node.schema:
            lines = [f"\n{indent} | {self._variant(variant, indent, None)}" for variant in variants]
            return "".join(lines) + (f"\n{indent} | null" if node.nullable else "")
        return " | ".join(self._members(node, indent))

    def _members(self, node: Node, indent: str) -> list[str]:
        """The type as the members of a union."""
        members = self._plain_members(node, indent)
        if node.nullable:
            members.append("null")
        return list(dict.fromkeys(members))

    def _plain_members(self, node: Node, indent: str) -> list[str]:
        schema = node.schema
        if isinstance(schema.get(NAMED), str):
            return [schema[NAMED]]
        if "const" in schema:
            return [compact(schema["const"])]
        values = schema.get("enum")
        if isinstance(values, list) and values:
            return [compact(value) for value in values]
        variants = self._reader.alternatives(node)
        if variants:
            return [member for variant in variants for member in self._members(variant, indent)]
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return [self._of_kind(kind, node, indent) for kind in kinds if isinstance(kind, str)] or ["any"]
        return [self._of_kind(kinds if isinstance(kinds, str) else _implied_kind(schema), node, indent)]

    def _of_kind(self, kind: str, node: Node, indent: str) -> str:
        if kind == "object":
            return self._object(node, indent)
        if kind == "array":
            return self._array(node, indent)
        return _SCALARS.get(kind, "any")

    def _array(self, node: Node, indent: str) -> str:
        keyword, tuple_of, rest_keyword = _tuple(node.schema)
        rest = node.schema.get(rest_keyword)
        if tuple_of:
            parts = [self._reader.part(node, part, keyword, index) for index, part in enumerate(tuple_of)]
            members = [" | ".join(self._members(part, indent)) for part in parts]
            if isinstance(rest, dict):
                members.append(f"...{self._list_of(self._reader.part(node, rest, rest_keyword), indent)}")
            return f"[{', '.join(members)}]"
        if not isinstance(rest, dict):
            return "Array<any>"
        return self._list_of(self._reader.part(node, rest, rest_keyword), indent)

    def _list_of(self, item: Node, indent: str) -> str:
        members = self._members(item, indent)
        return f"{members[0]}[]" if len(members) == 1 else f"({' | '.join(members)})[]"

    def _object(self, node: Node, indent: str) -> str:
        schema = node.schema
        description = node.inner_description or _text(schema, "description")
        lines = [] if description is None else comment(description, indent)
        lines.append("{")
        required = schema.get("required")
        names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        properties = schema.get("properties")
        for name, value in properties.items() if isinstance(properties, dict) else ():
            lines += self._property(name, self._reader.part(node, value, "properties", name), name in names, indent)
        lines += self._other_properties(node, indent)
        return "\n".join([*lines, f"{indent}}}"])

    def _other_properties(self, node: Node, indent: str) -> list[str]:
        lines = []
        patterns = node.schema.get("patternProperties")
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            part = self._reader.part(node, value, "patternProperties", pattern)
            lines += [*comment(f"keys: {compact(pattern)}", indent), *self._index(part, indent)]
        more = node.schema.get("additionalProperties")
        if more is True or isinstance(more, dict):
            lines += self._index(self._reader.part(node, more, "additionalProperties"), indent)
        return lines

    def _index(self, node: Node, indent: str) -> list[str]:
        members = self._members(node, indent + "    ")
        return [*self._about(node, indent), f"{indent}[key: string]: {' | '.join(members)},"]

    def _about(self, node: Node, indent: str) -> list[str]:
        """Comments on a property: what it is, what its items are, its limits."""
        description = _text(node.schema, "description")
        lines = [] if description is None else comment(description, indent)
        items = node.schema.get("items")
        if isinstance(items, dict):
            item = self._reader.part(node, items, "items").schema
            # An object carries its description itself.
            if "properties" not in item and (each := _text(item, "description")) is not None:
                lines += comment(f"each: {each}", indent)
        return lines + [line for limit in _limits(self._reader, node) for line in comment(limit, indent)]

    def _property(self, name: str, node: Node, required: bool, indent: str) -> list[str]:
        schema = node.schema
        key = (name if _BARE_KEY.fullmatch(name) else compact(name)) + ("" if required else "?")
        title = _text(schema, "title")
        lines = [] if title is None else [*comment(title, indent), f"{indent}//"]
        about = self._about(node, indent)
        examples = _examples(schema, indent)
        variants = self._reader.alternatives(node)
        if variants and self._need_lines(schema, variants):
            default = [f"{indent}// {text}" for text in _default(schema)]
            return [*lines, *examples, *about, *default, f"{indent}{key}:", *self._variants(node, variants, indent)]
        text = self._type(node, indent + "    ")
        return [*lines, *about, *examples, f"{indent}{key}: {text},{_trailing(_default(schema))}"]

    def _need_lines(self, schema: Schema, variants: list[Node]) -> bool:
        """One line for each alternative: always for oneOf, as the library has it; for anyOf where one is remarkable."""
        return "oneOf" in schema or any(
            "description" in variant.schema or "default" in variant.schema or _limits(self._reader, variant)
            for variant in variants
        )

    def _variants(self, node: Node, variants: list[Node], indent: str) -> list[str]:
        description = _text(node.schema, "description")
        lines = [f"{indent} | {self._variant(variant, indent, description)}" for variant in variants]
        return [*lines, *([f"{indent} | null"] if node.nullable else []), f"{indent},"]

    def _variant(self, node: Node, indent: str, said: str | None) -> str:
        """An alternative and what there is to say of it, except for what has been `said`."""
        description = _text(node.schema, "description")
        remarks = [] if description is None or description == said else [" ".join(_lines(description))]
        remarks += [*_limits(self._reader, node), *_default(node.schema)]
        return self._type(node, indent + "   ") + _trailing(remarks)


def _implied_kind(schema: Schema) -> str:
    if not {"properties", "additionalProperties", "patternProperties"}.isdisjoint(schema):
        return "object"
    return "array" if not {"items", "prefixItems"}.isdisjoint(schema) else "any"


def _tuple(schema: Schema) -> tuple[str, list[Any], str]:
    """A tuple's keyword and schemas in either draft, no schemas for other arrays, and the keyword of other items."""
    items, prefix = schema.get("items"), schema.get("prefixItems")
    if isinstance(items, list) and items:
        return "items", items, "additionalItems"
    return "prefixItems", prefix if isinstance(prefix, list) else [], "items"


def _text(schema: Schema, keyword: str) -> str | None:
    value = schema.get(keyword)
    return value if isinstance(value, str) else None


def _lines(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def comment(text: str, indent: str = "") -> list[str]:
    """`text` as lines of comment."""
    return [f"{indent}// {line}" for line in _lines(text)]


def _trailing(remarks: list[str]) -> str:
    return f" // {' '.join(remarks)}" if remarks else ""


def _default(schema: Schema) -> list[str]:
    """`default: ...`, a string in quotes unless it is one of an enum's values."""
    if "default" not in schema:
        return []
    value, values = schema["default"], schema.get("enum")
    bare = isinstance(value, str) and isinstance(values, list) and values and value.isprintable()
    return [f"default: {value if bare else compact(value)}"]


def _limits(reader: SchemaReader, node: Node) -> list[str]:
    """What a TypeScript type cannot say, as `keyword: value`, in one text; that of an array's items after `each`."""
    limits = _own_limits(node.schema)
    items = node.schema.get("items")
    if isinstance(items, dict):
        limits += [f"each {limit}" for limit in _own_limits(reader.part(node, items, "items").schema)]
    return [", ".join(limits)] if limits else []


def _own_limits(schema: Schema) -> list[str]:
    return [f"{keyword}: {_limit(schema[keyword])}" for keyword in _LIMITS if _is_limit(keyword, schema)]


def _is_limit(keyword: str, schema: Schema) -> bool:
    """False for what says nothing: zod gives integers the bounds of a double and formats their pattern."""
    value = schema.get(keyword)
    if keyword in ("minItems", "maxItems") and _tuple(schema)[1]:
        return False
    if isinstance(value, int | float):
        return bool(value or keyword in _BOUNDS) and abs(value) < _SAFE_INTEGER
    return isinstance(value, str) and not (keyword == "pattern" and "format" in schema)


def _limit(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else compact(value)


def _examples(schema: Schema, indent: str) -> list[str]:
    examples = schema.get("examples")
    if not isinstance(examples, list) or not examples:
        return []
    return [f"{indent}// Examples:", *(f"{indent}// - {compact(example)}" for example in examples)]
