"""Tool calls of many shapes, checked as OpenAI's compatibility test of gpt-oss servers checks them: 30 on both APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.engine.scripted import ScriptLine
from tests.clients.harness import ANALYSIS, PROGRAM_FOLDER, Scripted, answer, call, run_node_program

pytestmark = pytest.mark.clients

CASES: list[dict[str, Any]] = json.loads((PROGRAM_FOLDER / "cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    calls = [
        ScriptLine(tail_contains=case["input"], completion=call(case["tool"], case["arguments"]), tokens_per_step=4)
        for case in CASES
    ]
    done = ScriptLine(tail_contains="assistant<|channel|>commentary\ndone", completion=answer("Done."))
    folder = tmp_path_factory.mktemp("compatibility")
    with scripted.playing(*calls, done):
        return run_node_program("@openai/agents (Node)", "compatibility.mjs", scripted, folder)


def test_there_are_thirty_cases_of_many_shapes() -> None:
    assert len({case["input"] for case in CASES}) == 30


@pytest.mark.parametrize("how", ["", ".stream"], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{n} {case['tool']}" for n, case in enumerate(CASES)])
def test_a_call_arrives_with_its_arguments_and_its_reasoning(
    results: dict[str, Any], number: int, api: str, how: str
) -> None:
    result = results[f"{api}.{number}{how}"]
    assert "failed" not in result, result
    shown = result["shown"]
    assert shown["calls"] == [CASES[number]["arguments"]]
    assert shown["answer"] == "Done."
    assert ANALYSIS in shown["reasoning"]
