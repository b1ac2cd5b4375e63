"""Random JSON schemas: every keyword, alone and beside others, over few names and values so that they meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any] | bool

_NAMES = st.sampled_from(["a", "b", "ab", "kind", "S_x", "é", 'q"', ""])
_PATTERNS = st.sampled_from(
    [
        *(
            "^a",
            "b$",
            "^[a-z]{1,3}$",
            "^S_",
            "x|y",
            "^(?=.*[0-9])[a-z0-9]+$",
            r"^\d{2}-\d{2}$",
            "^(?!a)",
            r"^\S+$",
            "",
            ".",
        ),
        *(
            r"^[^\d\s]*$",
            r'^"\\?"$',
            "^(a|b)*$",
            "^é",
            r"^\w+@\w+$",
            "(ab)?c{2,}",
            "^[A-Z][a-z]*( [A-Z][a-z]*)*$",
            r"a\/b",
            "^$",
        ),
        *("^x-", "^.{2,4}$", "(?:^|,)z", r"^[\w.-]+$", "^(?!.*b).*$", r"^\W$", r"[^\w]"),
    ]
)
_FORMATS = st.sampled_from(
    [
        *("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "uri-reference"),
        *("json-pointer", "relative-json-pointer", "byte", "password", "int32", "double", "unheard-of"),
    ]
)
_SCALARS = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.0, 0.5, 3, 10, 1e3, "", "a", "b", "abc", "é", '"', "x\ny", "12-34"]
)
_VALUES = st.one_of(_SCALARS, st.sampled_from([[], [1], ["a", "b"], {}, {"a": 1}, {"a": "b", "b": None}]))
_NUMBERS = st.one_of(
    st.integers(-20, 20),
    st.sampled_from([0.5, -0.5, 0.1, 1.5, 1e-7, 100, 99, 1000, -1000, 2**53 + 1, 1e20, 0.3, 12.75]),
)
_COUNTS = st.sampled_from([0, 1, 2, 3, 3.0, 7])
_TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])

_TYPE = st.one_of(_TYPES, st.lists(_TYPES, min_size=1, max_size=3, unique=True))
_OF_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "enum": st.lists(_VALUES, min_size=1, max_size=4),
    "const": _VALUES,
    "minLength": _COUNTS,
    "maxLength": st.one_of(_COUNTS, st.sampled_from([40, 10_000])),
    "pattern": _PATTERNS,
    "format": _FORMATS,
    "minimum": _NUMBERS,
    "maximum": _NUMBERS,
    "exclusiveMinimum": _NUMBERS,
    "exclusiveMaximum": _NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 3, 5, 10, 2.0, 0.5, 0.01, 7, 100, 150]),
}


def _parts(inner: st.SearchStrategy[Schema]) -> dict[str, st.SearchStrategy[Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(_NAMES, inner, max_size=4)
    names = st.lists(_NAMES, max_size=3, unique=True)
    return {
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
        **dict.fromkeys(
            (
                *("not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames"),
                *("unevaluatedProperties", "unevaluatedItems"),
            ),
            inner,
        ),
        "properties": named,
        "required": names,
        "patternProperties": st.dictionaries(_PATTERNS, inner, max_size=2),
        "dependentRequired": st.dictionaries(_NAMES, names, max_size=2),
        "dependentSchemas": st.dictionaries(_NAMES, inner, max_size=2),
        **dict.fromkeys(("minItems", "maxItems", "minProperties", "maxProperties", "minContains"), _COUNTS),
        "maxContains": _COUNTS,
        "uniqueItems": st.booleans(),
    }


_REFERENCES = st.builds(lambda name: {"$ref": f"#/$defs/{name}"}, st.sampled_from(["A", "B", "C"]))


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """What people write: an object with its properties, some required."""
    return st.builds(
        lambda properties, number, more: {
            "type": "object",
            "properties": properties,
            "required": list(properties)[:number],
            **more,
        },
        st.dictionaries(_NAMES, inner, min_size=1, max_size=4),
        st.integers(0, 4),
        st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}]),
    )


def _mixed(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    fields = {"type": _TYPE, **_OF_SCALARS, **_parts(inner)}
    chosen = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=4, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


_LEAVES: st.SearchStrategy[Schema] = st.one_of(
    _REFERENCES,
    _TYPES.map(lambda kind: {"type": kind}),
    st.booleans(),
    st.lists(st.sampled_from(sorted(_OF_SCALARS)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({"type": _TYPE, **{name: _OF_SCALARS[name] for name in names}})
    ),
)
_INNER = st.recursive(_LEAVES, lambda inner: st.one_of(_mixed(inner), _objects(inner)), max_leaves=6)


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas with definitions A, B and C, which may lead to one another and to themselves."""
    definitions = st.fixed_dictionaries(dict.fromkeys(("A", "B", "C"), _INNER))
    root = st.one_of(_mixed(_INNER), _objects(_INNER))
    return st.builds(
        lambda schema, named: {**schema, "$defs": named} if isinstance(schema, dict) else {}, root, definitions
    )
