"""`serving certify` prints a table, and its exit status says whether all is well."""

from __future__ import annotations

import json

import pytest

from serving.cli import main
from serving.engine.scripted import ScriptedEngine, ScriptLine
from serving.settings.tree import Settings
from tests.certification.script import answer, script
from tests.http_server import in_thread


def certify(*arguments: str, before: tuple[ScriptLine, ...] = ()) -> int:
    with (
        in_thread(Settings(), ScriptedEngine(script(*before))) as url,
        pytest.raises(SystemExit) as stopped,
    ):
        main(["certify", f"{url}/v1", *arguments])
    return int(stopped.value.code or 0)


def test_a_table_has_a_row_for_each_check_and_a_column_for_each_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert certify("--only", "errors", "--only", "service") == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "group     check                chat       responses  messages",
        "service   the model is listed  ok         ok         ok",
        "errors    unknown model        ok         ok         ok",
        "errors    a field is missing   ok         ok         ok",
        "errors    no JSON              ok         ok         ok",
        "",
        "10 checks, 0 failed",
    ]


def test_a_failure_is_told_in_words_and_by_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ScriptLine(prompt_contains="'constant'", completion=answer('{"kind": "question"}'))
    assert certify("--only", "schema", before=(wrong,)) == 1
    captured = capsys.readouterr()
    assert "constant                 FAILED     FAILED     FAILED" in captured.out
    assert 'schema, constant (chat): {"kind": "question"} is not valid: \'answer\' was expected' in captured.out
    assert captured.err == "error: 3 of 45 checks failed\n"


def test_json_has_a_line_for_each_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert certify("--only", "service", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "group": "service",
        "name": "the model is listed",
        "api": "service",
        "state": "ok",
        "remark": "",
    }


def test_a_group_that_there_is_not_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["certify", "http://127.0.0.1:1/v1", "--only", "speed"])
    assert stopped.value.code == 2
    assert "no such group: 'speed'" in capsys.readouterr().err


def test_a_server_that_is_away_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["certify", "http://127.0.0.1:9/v1"])
    assert stopped.value.code == 1
    assert "does not answer" in capsys.readouterr().err
