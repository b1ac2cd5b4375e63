"""What is let through vLLM lets through; its check is read from its source, because importing it takes 15 s."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.schemas.check import schema_problem, subschemas
from serving.schemas.support import unsupported_keyword

WANTED = {
    "STRING_SUPPORTED_FORMATS",
    "_has_pattern_and_length_bounds",
    "_schema_types",
    "has_xgrammar_unsupported_json_features",
}


def vllms_check() -> Callable[[dict[str, Any]], bool]:
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed: make install")
    file = Path(spec.origin).parent / "v1/structured_output/backend_xgrammar.py"
    body: list[ast.stmt] = [
        node
        for node in ast.parse(file.read_text()).body
        if (isinstance(node, ast.FunctionDef) and node.name in WANTED)
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in WANTED)
    ]
    assert len(body) == len(WANTED), "vLLM has changed its check; see that ours still covers it"
    names: dict[str, Any] = {"Any": Any}
    exec(compile(ast.Module(body, []), str(file), "exec"), names)  # the installed package's own functions
    check: Callable[[dict[str, Any]], bool] = names["has_xgrammar_unsupported_json_features"]
    return check


words: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["object", "string", "integer", "array", ["string", "null"], ["array", "number"]]),
    "multipleOf": st.just(2),
    "uniqueItems": st.booleans(),
    "contains": st.just({}),
    "minContains": st.just(1),
    "format": st.sampled_from(["date", "uuid", "phone", "int32"]),
    "pattern": st.just("a"),
    "minLength": st.just(1),
    "maxLength": st.just(5),
    "unevaluatedProperties": st.booleans(),
    "required": st.just(["a"]),
}
schemas = st.recursive(
    st.fixed_dictionaries({}, optional=words),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **words,
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "propertyNames": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=4,
)


@pytest.mark.property
@given(schemas)
@example({"type": "object", "properties": {"a": {"type": "string", "format": "phone"}}})
def test_whatever_vllm_refuses_is_refused_here(schema: dict[str, Any]) -> None:
    if schema_problem(schema) is None:
        assert not vllms_check()(schema)


@pytest.mark.property
@given(schemas)
def test_the_keyword_that_is_named_is_in_the_schema(schema: dict[str, Any]) -> None:
    for _, part in subschemas(schema):
        found = unsupported_keyword(part)
        assert found is None or found[0] in part
