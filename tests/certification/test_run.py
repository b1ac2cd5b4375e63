"""Our server passes every check on the scripted engine; one that errs fails the check that is for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jsonschema
import pytest

from serving.certification.corpus import client_requests
from serving.certification.endpoint import Endpoint
from serving.certification.questions import FORCED_TOOLS, SCHEMA_CASES, SKY, TOOL_CASES
from serving.certification.run import GROUPS, Result, certified
from serving.engine.scripted import ScriptedEngine, ScriptLine
from serving.errors import ClientError
from serving.settings.tree import Settings
from tests.certification.script import answer, script
from tests.http_server import in_thread


@contextlib.contextmanager
def endpoint(*before: ScriptLine) -> Iterator[Endpoint]:
    with in_thread(Settings(), ScriptedEngine(script(*before))) as url, Endpoint(f"{url}/v1", {}, 30) as served:
        yield served


def failed(results: list[Result]) -> set[tuple[str, str]]:
    return {(each.name, each.api) for each in results if each.state == "failed"}


@pytest.fixture(scope="module")
def results() -> list[Result]:
    with endpoint() as served:
        return list(certified(served, None))


def test_our_server_passes_every_check(results: list[Result]) -> None:
    assert [each for each in results if each.state == "failed"] == []


def test_each_check_is_made_of_each_api(results: list[Result]) -> None:
    rows: dict[tuple[str, str], set[str]] = {}
    for each in results:
        rows.setdefault((each.group, each.name), set()).add(each.api)
    assert {group for group, _ in rows} == set(GROUPS)
    assert {
        key: apis
        for key, apis in rows.items()
        if key[0] not in ("requests", "service") and apis != {"chat", "responses", "messages"}
    } == {}
    assert {each.api for each in results if each.group == "requests"} == {"chat", "responses", "messages"}


def test_the_examples_are_valid_by_their_schemas() -> None:
    for case in SCHEMA_CASES:
        jsonschema.Draft202012Validator(case.schema).validate(case.example)
    for tool in (*FORCED_TOOLS, *(case.tool for case in TOOL_CASES)):
        jsonschema.Draft202012Validator(tool.parameters).validate(tool.example)


def test_requests_of_clients_have_names_of_their_own() -> None:
    names = [request.name for request in client_requests()]
    assert len(names) == len(set(names)) > 10


def test_an_answer_that_is_not_valid_by_the_schema_fails_its_check() -> None:
    wrong = ScriptLine(prompt_contains="'enumeration'", completion=answer('{"mood": "fine"}'))
    with endpoint(wrong) as served:
        results = list(certified(served, None, ("schema",)))
    assert failed(results) == {("enumeration", api) for api in ("chat", "responses", "messages")}
    assert "'fine' is not one of ['good', 'bad']" in next(each.remark for each in results if each.state == "failed")


def test_a_model_that_does_not_call_fails_the_checks_of_calls() -> None:
    idle = ScriptLine(prompt_contains=TOOL_CASES[1].question, completion=answer("It is late."))
    with endpoint(idle) as served:
        results = list(certified(served, None, ("tools",)))
    assert failed(results) == {("calls get_time by itself", api) for api in ("chat", "responses", "messages")}


def test_a_model_that_does_not_think_fails_the_check_of_reasoning() -> None:
    hasty = ScriptLine(
        prompt_contains=SKY.question, completion="<|channel|>final<|message|>Because of the air.<|return|>"
    )
    with endpoint(hasty) as served:
        results = list(certified(served, None, ("shape",)))
    assert {name for name, _ in failed(results)} == {"reasoning arrives"}


def test_other_arguments_than_expected_are_a_remark() -> None:
    call = '<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{"city": "Oslo, NO"}<|call|>'
    with endpoint(ScriptLine(prompt_contains=TOOL_CASES[1].question, completion=call)) as served:
        results = list(certified(served, None, ("tools",)))
    assert failed(results) == set()
    assert 'called with {"city": "Oslo, NO"}' in {each.remark for each in results}


def test_a_model_that_is_not_served_is_said_at_once() -> None:
    with endpoint() as served, pytest.raises(ClientError, match="does not serve other"):
        next(certified(served, "other"))


def test_an_address_without_a_server_is_said_at_once() -> None:
    with Endpoint("http://127.0.0.1:9/v1", {}, 5) as nobody, pytest.raises(ClientError, match="does not answer"):
        next(certified(nobody, None))
