from __future__ import annotations

import json
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai_harmony import DeveloperContent, Message, Role, ToolDescription
from pydantic import BaseModel, Field

from serving.errors import InvalidValueError
from serving.harmony.conversation import FunctionTool
from serving.harmony.tools import tools_section
from serving.harmony.vocabulary import encoding

BEFORE, AFTER = "# Tools\n\n## functions\n\nnamespace functions {\n\n", "\n\n} // namespace functions"


def shown(schema: dict[str, Any]) -> str:
    """What a function `f` with these parameters looks like to the model."""
    return tools_section((FunctionTool("f", "", schema),)).removeprefix(BEFORE).removesuffix(AFTER)


def shown_by_the_library(schema: dict[str, Any]) -> str:
    content = DeveloperContent.new().with_function_tools([ToolDescription.new("f", "", schema)])
    text: str = encoding().decode(encoding().render(Message.from_role_and_content(Role.DEVELOPER, content)))
    return text.removeprefix(f"<|start|>developer<|message|>{BEFORE}").removesuffix(f"{AFTER}<|end|>")


def field(schema: dict[str, Any], **root: Any) -> str:
    """The lines of a required property `a`."""
    text = shown({"type": "object", "properties": {"a": schema}, "required": ["a"], **root})
    return text.removeprefix("type f = (_: {\n").removesuffix("\n}) => any;")


ADDRESS = {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}


@pytest.mark.parametrize(
    ("schema", "lines"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "a: string | null, // default: null"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a: number | string,"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}, "a: number | string | null,"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "a: number,"),
        ({"anyOf": [{"type": "null"}]}, "a: null,"),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, "a: string | null,"),
        ({"type": ["string", "null"], "enum": ["x", None]}, 'a: "x" | null,'),
        ({"type": ["array", "null"], "items": {"type": "string"}}, "a: string[] | null,"),
        ({"type": ["object", "null"], **ADDRESS, "nullable": True}, "a: {\n    zip: string,\n    } | null,"),
        ({"type": "string", "enum": ["null", "nullify"], "nullable": True}, 'a: "null" | "nullify" | null,'),
        ({"const": "only"}, 'a: "only",'),
        ({"const": None}, "a: null,"),
        ({"enum": [1, 2.5, True, 'say "hi"', None]}, r'a: 1 | 2.5 | true | "say \"hi\"" | null,'),
        ({"type": "array", "items": {"enum": ["x", "y"]}}, 'a: ("x" | "y")[],'),
        ({"type": "array", "items": {"type": "string", "nullable": True}}, "a: (string | null)[],"),
        ({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "number"}]}}, "a: (string | number)[],"),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": ["string", "null"]}], "minItems": 2},
            "a: [number, string | null],",
        ),
        ({"items": {"type": "string"}}, "a: string[],"),
        ({"properties": {"zip": {"type": "string"}}}, "a: {\n    zip?: string,\n    },"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "a: {\n    [key: string]: number,\n    },"),
        ({"type": "object", "additionalProperties": True}, "a: {\n    [key: string]: any,\n    },"),
        ({"type": "object", "additionalProperties": False}, "a: {\n    },"),
        (
            {"type": "object", "patternProperties": {"^x-": {"type": "string"}}},
            'a: {\n    // keys: "^x-"\n    [key: string]: string,\n    },',
        ),
        (True, "a: any,"),
        (False, "a: never,"),
        (
            {"allOf": [ADDRESS, {"properties": {"city": {"type": "string"}}}], "description": "Home"},
            "// Home\na:     // Home\n{\n    city?: string,\n    zip: string,\n    },",
        ),
        (
            {**ADDRESS, "anyOf": [{"required": ["zip"]}, {"required": ["city"]}]},
            "a: {\n    zip: string,\n    },",
        ),
        (
            {"anyOf": [{"type": "string", "description": "by name"}, {"type": "integer", "minimum": 1}]},
            "a:\n | string // by name\n | number // minimum: 1\n,",
        ),
        (
            {"oneOf": [{"type": "string", "description": "by name"}, {"type": "number"}], "description": "Who"},
            "// Who\na:\n | string // by name\n | number\n,",
        ),
        (
            {"oneOf": [{"type": "string", "description": "Who"}, {"type": "number"}], "description": "Who"},
            "// Who\na:\n | string\n | number\n,",
        ),
        ({"type": "array", "items": {"type": "string", "description": "A tag"}}, "// each: A tag\na: string[],"),
        (
            {"type": "object", "additionalProperties": {"type": "integer", "description": "Points", "minimum": 0}},
            "a: {\n    // Points\n    // minimum: 0\n    [key: string]: number,\n    },",
        ),
        ({"type": "string", "description": "One.\nTwo."}, "// One.\n// Two.\na: string,"),
        ({"type": "string", "default": 'a"b\n'}, r'a: string, // default: "a\"b\n"'),
        ({"type": "integer", "examples": [1, "x"]}, '// Examples:\n// - 1\n// - "x"\na: number,'),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict | bool) else "",
)
def test_what_a_schema_says_is_shown(schema: dict[str, Any], lines: str) -> None:
    assert field(schema) == lines


@pytest.mark.parametrize(
    ("schema", "limits"),
    [
        (
            {"type": "integer", "minimum": 0, "exclusiveMaximum": 10, "multipleOf": 5},
            "minimum: 0, exclusiveMaximum: 10, multipleOf: 5",
        ),
        ({"type": "string", "format": "date-time"}, "format: date-time"),
        (
            {"type": "string", "pattern": "^a+$", "minLength": 1, "maxLength": 9},
            "pattern: ^a+$, minLength: 1, maxLength: 9",
        ),
        (
            {"type": "array", "items": {"type": "string", "format": "email"}, "maxItems": 3, "uniqueItems": True},
            "maxItems: 3, uniqueItems: true, each format: email",
        ),
        ({"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]}, "maximum: 9"),
        ({"type": "string", "pattern": "a\nb"}, r'pattern: "a\nb"'),
    ],
    ids=["numbers", "format", "text", "array", "optional", "line_break"],
)
def test_limits_are_a_comment(schema: dict[str, Any], limits: str) -> None:
    assert field(schema).split("\n")[0] == f"// {limits}"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -(2**53 - 1), "maximum": 2**53 - 1},
        {"type": "array", "minItems": 0, "uniqueItems": False},
        {"type": "string", "minLength": 0, "maximum": None},
    ],
    ids=["bounds_of_a_double", "empty_array", "empty_text"],
)
def test_limits_that_limit_nothing_are_left_out(schema: dict[str, Any]) -> None:
    assert "//" not in field(schema)


def test_the_pattern_of_a_format_is_left_out() -> None:
    assert field({"type": "string", "format": "email", "pattern": "^very-long$"}) == "// format: email\na: string,"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("x-y", "x-y"),
        ("$a.b/c@d", "$a.b/c@d"),
        ("天気", "天気"),
        ("two words", '"two words"'),
        ("a}\n", r'"a}\n"'),
        ("", '""'),
    ],
)
def test_keys_are_quoted_where_they_would_be_misread(name: str, key: str) -> None:
    assert shown({"type": "object", "properties": {name: {}}}) == f"type f = (_: {{\n{key}?: any,\n}}) => any;"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False, "title": "Arguments"},
    ],
)
def test_a_function_without_parameters_takes_no_argument(schema: dict[str, Any]) -> None:
    assert shown(schema) == "type f = () => any;"


def test_parameters_of_any_kind_are_shown_as_such() -> None:
    assert shown({}) == "type f = (_: any) => any;"
    assert shown({"type": "object", "additionalProperties": True}) == "type f = (_: {\n[key: string]: any,\n}) => any;"


def test_alternatives_for_the_whole_argument() -> None:
    schema = {"oneOf": [ADDRESS, {"type": "string", "description": "as text"}]}
    assert shown(schema) == "type f = (_: \n | {\n   zip: string,\n   }\n | string // as text\n) => any;"


def test_a_reference_is_shown_as_what_it_leads_to() -> None:
    definitions: dict[str, Any] = {"Address": {**ADDRESS, "description": "A place."}, "a/b~c": {"type": "string"}}
    inlined = field(definitions["Address"])
    assert field({"$ref": "#/$defs/Address"}, **{"$defs": definitions}) == inlined
    assert field({"allOf": [{"$ref": "#/$defs/Address"}]}, **{"$defs": definitions}) == inlined
    assert field({"$ref": "#/$defs/a~1b~0c"}, **{"$defs": definitions}) == "a: string,"
    assert (
        field({"type": "array", "items": {"$ref": "#/definitions/x/0"}}, definitions={"x": [{"type": "null"}]})
        == "a: null[],"
    )


def test_what_stands_beside_a_reference_goes_first() -> None:
    definitions = {"Address": {**ADDRESS, "description": "A place."}}
    assert field(
        {"$ref": "#/$defs/Address", "description": "Home", "default": {"zip": "1"}}, **{"$defs": definitions}
    ) == ('// Home\na:     // A place.\n{\n    zip: string,\n    }, // default: {"zip":"1"}')


def test_a_reference_that_leads_back_to_itself_gets_a_name() -> None:
    tree = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        "required": ["value"],
    }
    schema = {"type": "object", "properties": {"tree": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}}}
    assert shown({**schema, "$defs": {"Tree": tree}}) == (
        "type Tree = {\nvalue: number,\nchildren?: Tree[],\n};\n\ntype f = (_: {\ntree?: Tree | null,\n}) => any;"
    )


def test_named_types_of_several_functions_do_not_meet() -> None:
    def tool(name: str, kind: str) -> FunctionTool:
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {"type": kind}}}
        return FunctionTool(name, "About it.", {"$ref": "#/$defs/Node", "$defs": {"Node": node}})

    text = tools_section((tool("Node", "string"), tool("g", "number"))).removeprefix(BEFORE)
    assert "type Node2 = {\nnext?: Node2,\nvalue?: string,\n};\n\n// About it.\ntype Node = (_: Node2) => any;" in text
    assert "type Node3 = {\nnext?: Node3,\nvalue?: number,\n};\n\n// About it.\ntype g = (_: Node3) => any;" in text


def test_a_schema_that_refers_to_itself_as_a_whole() -> None:
    assert shown({"type": "object", "properties": {"inner": {"$ref": "#"}}}) == (
        "type Arguments = {\ninner?: Arguments,\n};\n\ntype f = (_: {\ninner?: Arguments,\n}) => any;"
    )


@pytest.mark.parametrize(
    "reference", ["#/$defs/Gone", "#/$defs", "#anchor", "other.json", "https://x.test/y", "", "#/properties/a/enum/0"]
)
def test_a_reference_that_leads_nowhere_is_refused_with_its_place(reference: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "enum": [1], "items": {"$ref": reference}}},
        "$defs": 1,
    }
    with pytest.raises(InvalidValueError) as caught:
        shown(schema)
    assert caught.value.param == "tools[0].function.parameters.properties.a.items.$ref"
    assert "leads nowhere" in caught.value.message


def laughs(levels: int) -> dict[str, Any]:
    """Small, and immense once its references are followed."""
    definitions: dict[str, Any] = {
        f"d{level}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/d{level + 1}"} for key in "abcdefgh"}}
        for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {"type": "string"}}}


def chain(length: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": {"type": "string"}}}


def long_text(uses: int) -> dict[str, Any]:
    long = {"type": "string", "description": "word " * 20_000}
    return {
        "type": "object",
        "properties": {str(i): {"$ref": "#/$defs/long"} for i in range(uses)},
        "$defs": {"long": long},
    }


def tangle(size: int) -> dict[str, Any]:
    """A definition that refers to itself, in many spellings."""
    spellings = [
        "#/%24defs/" + "".join(f"%{ord(c):x}" if i >> bit & 1 else c for bit, c in enumerate("definition!"))
        for i in range(size)
    ]
    definition = {"type": "object", "properties": {str(i): {"$ref": to} for i, to in enumerate(spellings)}}
    return {"$ref": "#/$defs/definition!", "$defs": {"definition!": definition}}


def crowd(size: int) -> dict[str, Any]:
    properties: dict[str, Any] = {str(i): {} for i in range(size)}
    variants = [{"type": "object", "properties": {"a": {}}} for _ in range(size)]
    return {"type": "object", "properties": properties, "anyOf": variants}


@pytest.mark.parametrize(
    "schema",
    [laughs(12), chain(500), long_text(5_000), tangle(2_048), crowd(5_000)],
    ids=["laughs", "chain", "long_text", "tangle", "crowd"],
)
def test_schemas_that_would_take_too_long_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError) as caught:
        shown(schema)
    assert caught.value.param == "tools[0].function.parameters"
    assert "too large" in caught.value.message


class Colour(Enum):
    red = "red"
    blue = "blue"


class Address(BaseModel):
    """Where someone lives."""

    street: str = Field(description="Street and number")
    zip: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Person(BaseModel):
    age: int = Field(ge=0, description="In years")
    colour: Colour = Field(Colour.red, description="Favourite")
    homes: list[Address]
    scores: dict[str, int | None] = {}
    pet: Cat | Dog = Field(discriminator="kind")


def test_a_model_of_pydantic_is_shown_whole() -> None:
    text = shown(Person.model_json_schema())
    for part in (
        "// In years\n// minimum: 0\nage: number,",
        '// Favourite\ncolour?: "red" | "blue", // default: red',
        "homes:     // Where someone lives.\n{\n    // Street\n    //\n    // Street and number\n    street: string,",
        "zip?: string | null, // default: null\n    }[],",
        "[key: string]: number | null,\n    }, // default: {}",
        'pet:\n | {\n   // Kind\n   //\n   kind: "cat",\n   }\n | {\n   // Kind\n   //\n   kind: "dog",\n   }\n,',
    ):
        assert part in text
    assert "any" not in text.removesuffix("any;")


# Texts in which JSON escapes nothing: the library escapes nothing either, which is right for these alone.
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='"\\'), max_size=8)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
about = st.fixed_dictionaries(
    {}, optional={"description": words, "title": words, "examples": st.lists(words, max_size=2)}
)
scalars: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, type=st.sampled_from(["string", "number", "integer", "boolean"])),
    st.builds(dict, type=st.just("string"), enum=st.lists(words, min_size=1, max_size=3, unique=True)),
    st.builds(
        dict,
        type=st.lists(st.sampled_from(["string", "integer", "boolean", "null"]), min_size=1, max_size=3, unique=True),
    ),
    st.just({"type": "array"}),
    st.just({}),
)
defaults = st.fixed_dictionaries(
    {}, optional={"default": words | st.integers(-9, 9) | st.booleans() | st.none() | st.just(0.5)}
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(
        st.dictionaries(
            keys,
            st.builds(lambda *parts: {k: v for p in parts for k, v in p.items()}, about, defaults, inner),
            min_size=1,
            max_size=3,
        )
    )
    for value in properties.values():
        # The library leaves "null" out where that word is anywhere in the type.
        if value.get("type") in ("string", "number") and "enum" not in value and draw(st.booleans()):
            value["nullable"] = True
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        **draw(st.fixed_dictionaries({}, optional={"description": words})),
    }


def arrays(items: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    one_type = items.filter(
        lambda schema: schema.keys().isdisjoint(["enum", "oneOf"]) and isinstance(schema.get("type", ""), str)
    )
    return st.builds(dict, type=st.just("array"), items=one_type)


def one_ofs(variants: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    plain = variants.filter(lambda schema: "oneOf" not in schema and "description" not in schema)
    return st.builds(dict, oneOf=st.lists(plain, min_size=1, max_size=3))


schemas = objects(st.recursive(scalars, lambda inner: objects(inner) | arrays(inner) | one_ofs(inner), max_leaves=6))


@pytest.mark.property
@given(schema=schemas)
@example(schema={"type": "object", "properties": {"a": {"type": "object", "properties": {}, "description": "d"}}})
def test_agrees_with_the_library_where_the_library_loses_nothing(schema: dict[str, Any]) -> None:
    assert shown(schema) == shown_by_the_library(schema)


@pytest.mark.parametrize(
    ("schema", "lines"),
    [
        ({"type": "STRING"}, "a: string,"),
        ({"type": "Integer"}, "a: number,"),
        ({"type": "str"}, "a: string,"),
        ({"type": "float"}, "a: number,"),
        ({"type": "bool"}, "a: boolean,"),
        ({"type": "list", "items": {"type": "int"}}, "a: number[],"),
        (
            {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"b": {"type": "BOOLEAN"}}}},
            "a: {\nb?: boolean,\n}[],",
        ),
        ({"type": ["STRING", "NULL"]}, "a: string | null,"),
        ({"type": ["str", None]}, "a: string | null,"),
        ({"type": "NoneType"}, "a: null,"),
        ({"type": "", "properties": {"b": {"type": "string"}}}, "a: {\nb?: string,\n},"),
        ({"type": "any"}, "a: any,"),
        ({"type": "TYPE_UNSPECIFIED"}, "a: any,"),
        ({"anyOf": [{"type": "STRING"}, {"type": "NULL"}]}, "a: string | null,"),
        ({"type": "array", "items": [{"type": "number"}, {"type": "string"}]}, "a: [number, string],"),
        (
            {"type": "array", "items": [{"type": "NUMBER"}], "additionalItems": {"type": "str"}},
            "a: [number, ...string[]],",
        ),
        (
            {"type": "array", "prefixItems": [{"type": "number"}], "items": {"type": ["string", "null"]}},
            "a: [number, ...(string | null)[]],",
        ),
    ],
)
def test_types_in_any_spelling_and_tuples_of_either_draft_are_shown(schema: dict[str, Any], lines: str) -> None:
    text = "\n".join(line.strip() for line in field(schema).splitlines())
    assert text == lines


def test_capitals_of_a_whole_schema_change_nothing() -> None:
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "enum": ["STRING"], "default": "OBJECT"}}}
    plain = {"type": "object", "properties": {"a": {"type": "string", "enum": ["STRING"], "default": "OBJECT"}}}
    assert shown(schema) == shown(plain)
    assert schema["type"] == "OBJECT"


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        ({"type": "object", "properties": {"a": {"type": "elephant"}}}, "properties.a.type"),
        ({"type": "object", "properties": {"a": {"type": 3}}}, "properties.a.type"),
        ({"type": "object", "properties": {"a": {"items": {"type": ["string", "thing"]}}}}, "properties.a.items.type"),
        ({"type": "object", "properties": {"a": "string"}}, "properties.a"),
        ({"type": "object", "properties": ["a"]}, "properties"),
        ({"type": "object", "properties": {"a": {"anyOf": {"type": "string"}}}}, "properties.a.anyOf"),
        ({"type": "object", "properties": {"a": {"type": "array", "items": "string"}}}, "properties.a.items"),
        ({"$defs": {"x": {"type": "wrong"}}, "properties": {"a": {"$ref": "#/$defs/x"}}}, "$defs.x.type"),
    ],
)
def test_what_cannot_be_shown_is_named_with_its_place(schema: dict[str, Any], at: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        shown(schema)
    assert caught.value.param == f"tools[0].function.parameters.{at}"
