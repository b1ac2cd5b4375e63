"""Patterns that Python's `re` would not finish with in a lifetime are judged all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.schemas.check import is_valid_answer, schema_grammar, schema_problem

LONG = "a" * 80


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "^(a*)*$", "^(.*a){20}$"])
def test_a_pattern_with_many_readings_ends(pattern: str) -> None:
    schema = {"pattern": pattern, "enum": [LONG, f"{LONG}!"]}
    assert schema_grammar(json.dumps(schema)) == f'root ::= "\\"{LONG}\\""\n'
    assert is_valid_answer(json.dumps({"pattern": pattern}), json.dumps(LONG))
    assert not is_valid_answer(json.dumps({"pattern": pattern}), json.dumps(f"{LONG}!"))


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "a*a*a*a*b$"])
def test_such_a_pattern_of_names_is_refused(pattern: str) -> None:
    schema: dict[str, Any] = {"properties": {f"{LONG}!": {}}, "patternProperties": {pattern: {}}}
    problem = schema_problem(schema)
    assert problem is not None
    assert problem.code == "unsupported_schema"
    assert problem.at.startswith("patternProperties.")
