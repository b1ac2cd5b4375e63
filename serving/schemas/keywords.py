"""Keywords of JSON Schema and how answers are held to them: the one table that the code and docs/api.md read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Keyword:
    """Keyword, and whether answers are held to it, in part or not at all (then a schema with it is refused).

    "told": it describes, and no value is valid or invalid by it.
    """

    name: str
    support: Literal["held", "partly", "refused", "told"]
    limits: str = ""


_MULTIPLES = "whole numbers; without bounds up to 100, else ranges with at most 500 multiples"

KEYWORDS: tuple[Keyword, ...] = (
    Keyword("type", "held"),
    Keyword("enum", "held"),
    Keyword("const", "held"),
    Keyword(
        "$ref", "held", "within the schema, by pointer, `$anchor` or `$id`; also recursive, with keywords beside it"
    ),
    Keyword("allOf", "held", "merged"),
    Keyword("anyOf", "held", "merged with what stands beside it; at most 256 forms in all"),
    Keyword("oneOf", "partly", "where its schemas can be told apart: by type, values, required properties or bounds"),
    Keyword("not", "partly", "of all keywords but lists' items, patterns of names, formats and conditions"),
    Keyword("if", "partly", "with `then` and `else`, where its contrary can be held, as with `not`"),
    Keyword("then", "held"),
    Keyword("else", "held"),
    Keyword("dependentRequired", "held"),
    Keyword("dependentSchemas", "held"),
    Keyword("dependencies", "held"),
    Keyword("properties", "held", "in the order of the schema"),
    Keyword("required", "held", "also of properties that are not listed"),
    Keyword("additionalProperties", "held", "false where properties are listed and it is left out"),
    Keyword(
        "patternProperties",
        "held",
        "at most 3 patterns for one object, with at most two repetitions of one character each",
    ),
    Keyword("propertyNames", "held"),
    Keyword("unevaluatedProperties", "held"),
    Keyword("minProperties", "partly", "up to one more than the listed properties"),
    Keyword("maxProperties", "held"),
    Keyword("items", "held", "tuples of either draft"),
    Keyword("prefixItems", "held"),
    Keyword("additionalItems", "held"),
    Keyword("unevaluatedItems", "partly", "not beside `contains`"),
    Keyword("minItems", "held"),
    Keyword("maxItems", "held"),
    Keyword("uniqueItems", "partly", "of at most one item, or of items with an `enum` (in its order)"),
    Keyword("contains", "partly", "one, without tuples and `maxItems`"),
    Keyword("minContains", "partly", "as `contains`"),
    Keyword("maxContains", "refused"),
    Keyword("minLength", "held"),
    Keyword("maxLength", "held"),
    Keyword(
        "pattern",
        "partly",
        "what ECMA and Python's `re` read alike: with lookahead, without lookbehind, `\\b`, `\\p` and back references",
    ),
    Keyword("format", "partly", "the formats below; others of strings are refused"),
    Keyword("minimum", "held"),
    Keyword("maximum", "held"),
    Keyword("exclusiveMinimum", "held"),
    Keyword("exclusiveMaximum", "held"),
    Keyword("multipleOf", "partly", _MULTIPLES),
    Keyword("$dynamicRef", "refused"),
    Keyword("$recursiveRef", "refused"),
    *(
        Keyword(name, "told")
        for name in (
            *("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$vocabulary"),
            *("$defs", "definitions", "title", "description", "default", "examples", "example", "deprecated"),
            *("readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "nullable"),
            *("discriminator", "xml", "externalDocs"),
        )
    ),
)

REFUSED: dict[str, str] = {
    keyword.name: f"answers cannot be held to '{keyword.name}'; leave it out."
    for keyword in KEYWORDS
    if keyword.support == "refused"
}
TOLD: frozenset[str] = frozenset(keyword.name for keyword in KEYWORDS if keyword.support == "told")


def table() -> str:
    """The keywords that say which values are valid, as docs/structured-outputs.md has them."""
    rows = [
        f"| `{keyword.name}` | {_SUPPORT[keyword.support]} | {keyword.limits.replace('|', '&#124;')} |"
        for keyword in KEYWORDS
        if keyword.support != "told"
    ]
    return "\n".join(("| keyword | answers are held to it | limits |", "|---|---|---|", *rows))


_SUPPORT = {"held": "yes", "partly": "in part", "refused": "no"}
