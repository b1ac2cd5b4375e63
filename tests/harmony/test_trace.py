"""`serving harmony` shows what the parser makes of each token."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from serving.cli import main
from serving.harmony.trace import read_tokens, trace
from serving.harmony.vocabulary import encode_harmony

GLUED = '<|channel|>commentary to=functions.get_weatherjson<|message|>{"a":1}<|call|>'


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["harmony", *arguments])
    assert not stopped.value.code
    return capsys.readouterr().out


def test_each_token_has_its_place_and_what_it_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "completion.txt"
    file.write_text(GLUED + "\n")

    lines = shown(capsys, str(file), "--tool", "get_weather").splitlines()

    assert len(lines) == len(encode_harmony(GLUED)) + 1
    (opened,) = (line for line in lines if "opens call" in line)
    assert opened.split('"<|message|>"')[1].split() == (
        ["call", "get_weather", "recovers:", "recipient_guessed;", "opens", "call", "0", "of", "get_weather"]
    )
    assert lines[-1].split() == [str(len(lines) - 1), "end", "finishes:", "tool_calls"]


def test_ids_and_text_are_the_same_completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, ids = tmp_path / "text", tmp_path / "ids"
    text.write_text(GLUED)
    ids.write_text(json.dumps(encode_harmony(GLUED)))

    steps = [json.loads(line) for line in shown(capsys, str(text), "--json").splitlines()]

    assert steps == [json.loads(line) for line in shown(capsys, str(ids), "--json").splitlines()]
    assert [step["token"] for step in steps[:-1]] == encode_harmony(GLUED)


def test_what_is_not_of_the_turn_is_over() -> None:
    tokens = encode_harmony("<|channel|>final<|message|>One.<|end|><|start|>user<|message|>Two.")

    *_, last, _ = trace(tokens)

    assert last.at == "over"


@pytest.mark.parametrize("given", ["[999999]", None])
def test_what_is_no_completion_is_told(given: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "completion"
    if given is not None:
        file.write_text(given)

    with pytest.raises(SystemExit) as stopped:
        main(["harmony", str(file)])

    assert stopped.value.code == 2
    assert str(file) in capsys.readouterr().err


def test_the_page_shows_a_command_that_works(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/harmony.md").read_text()
    found = re.search(r"echo '(.*)' \| serving harmony - --tool (\w+)", page)
    assert found is not None
    file = tmp_path / "completion"
    file.write_text(found[1])

    assert "opens call 0 of get_weather" in shown(capsys, str(file), "--tool", found[2])
    assert read_tokens(found[1])
