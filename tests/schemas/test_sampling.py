"""Whatever the grammar of a schema lets through is valid by the schema: sampled, not believed.

20,000 random schemas instead of 2,000: SCHEMAS=20000 .venv/bin/pytest tests/schemas/test_sampling.py -k random
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from referencing import Registry

from serving.schemas.check import draft_of, schema_grammar, schema_problem
from tests.schemas.sampling import matches, samples
from tests.schemas.strategies import schemas
from tests.schemas.test_keywords import EXAMPLES

RANDOM = int(os.environ.get("SCHEMAS", "2000"))
SHARES = 8
"""Parts of the random schemas that run beside one another."""


def validator_of(schema: dict[str, Any]) -> Any:
    """jsonschema's own validator, formats included."""
    draft = draft_of(schema)
    return draft(schema, registry=Registry(), format_checker=draft.FORMAT_CHECKER)


def check_samples(schema: dict[str, Any], count: int) -> list[Any]:
    """Sample a schema's grammar, validate each sample, and return their values."""
    grammar = schema_grammar(json.dumps(schema))
    validator = validator_of(schema)
    values = []
    for text in samples(grammar, count, seed=len(grammar)):
        values.append(json.loads(text))
        error = next(validator.iter_errors(values[-1]), None)
        assert error is None, f"{text} is not valid: {error.message}"
    return values


@pytest.mark.property
@pytest.mark.parametrize("share", range(SHARES))
def test_random_schemas_are_held_or_refused(share: int) -> None:
    @seed(share)
    @settings(max_examples=RANDOM // SHARES, derandomize=False, suppress_health_check=list(HealthCheck))
    @given(schemas())
    def check(schema: dict[str, Any]) -> None:
        problem = schema_problem(schema)
        if problem is None:
            check_samples(schema, 3)
        else:
            assert problem.code == "unsupported_schema" or "no value" in problem.message or "itself" in problem.message

    check()


REAL = [json.loads(line) for line in (Path(__file__).parent / "real.jsonl").read_text().splitlines()]
"""Schemas of the kinds that pydantic, zod, OpenAPI's generators and people write; `refused` names a problem's place."""


@pytest.mark.parametrize("case", [case for case in REAL if "refused" not in case], ids=lambda case: str(case["name"]))
def test_what_people_write_is_held(case: dict[str, Any]) -> None:
    assert schema_problem(case["schema"]) is None
    assert check_samples(case["schema"], 25)


@pytest.mark.parametrize("case", [case for case in REAL if "refused" in case], ids=lambda case: str(case["name"]))
def test_what_cannot_be_held_is_refused_with_its_place(case: dict[str, Any]) -> None:
    problem = schema_problem(case["schema"])
    assert problem is not None
    assert problem.at == case["refused"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_keyword_is_held_by_itself(name: str) -> None:
    if schema_problem(EXAMPLES[name]) is None:
        assert check_samples(EXAMPLES[name], 40)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pydantic-model", '{"name": "Ada \\u00e9 \\"L\\"", "age": null, '
         '"address": {"street": "1", "zip": "1234"}, "tags": []}'),
        ("pydantic-strict", '{"country":"France","capital":"Paris"}'),
        ("pydantic-datetimes", '{"at":"2024-02-29T23:59:59.123Z","day":"2000-02-29","clock":"12:00:00+01:00",'
         '"id":"123e4567-e89b-12d3-a456-426614174000","took":"P1DT2H"}'),
        ("pydantic-bounds", '{"p":0.25,"n":42,"m":105}'),
        ("pydantic-recursive", '{"value":1,"left":{"value":-2,"right":null}}'),
        ("zod-email-pattern", '{"mail":"ada.lovelace@example.com"}'),
        ("openapi-pattern-phone", '{"phone":"+4930123456"}'),
        ("tool-weather", '{"location":"San Francisco, CA","unit":"celsius"}'),
        ("tool-no-arguments", "{}"),
        ("tool-any-object", '{"any":{"thing":[1,2.5e3,"x",null]}}'),
        ("openapi-additional-properties-true", '{"name":"a","number":3,"nam":"b"}'),
        ("kubernetes-like", '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","labels":{"app":"web"}},'
         '"spec":{"containers":[{"name":"c","image":"nginx:1.27"}]}}'),
        ("if-then-else-country", '{"country":"NL","code":"1234AB"}'),
        ("pattern-and-listed", '{"x-id":"a","x-other":"long text","count":3}'),
        ("long-text", '{"summary":"Zwölf Boxkämpfer 😀","title":"A title"}'),
        ("unicode-names", '{"größe":1,"名前":"花子","quo\\"te":true,"back\\\\slash":false}'),
        ("large-bound", "9007199254740994"),
    ],
)  # fmt: skip
def test_what_a_model_would_write_is_let_through(name: str, text: str) -> None:
    schema = next(case["schema"] for case in REAL if case["name"] == name)
    assert validator_of(schema).is_valid(json.loads(text))
    assert matches(schema_grammar(json.dumps(schema)), text)
