from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.cli import main
from serving.settings.keys import KeyHash, split


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    code = stopped.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@pytest.fixture
def made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> tuple[str, Path]:
    """A key made on the command line, and a teams file with the line that was printed."""
    assert run("keys", "new", "research", "--expires", "90d", "--note", "it's: mine") == 0
    printed = capsys.readouterr().out
    text = re.search(r"sk-\w+", printed)
    assert text is not None
    path = tmp_path / "teams.yaml"
    path.write_text("teams:\n  research:\n    keys:\n" + printed.splitlines()[-1] + "\n")
    return text[0], path


def test_the_line_to_store_is_accepted_for_the_key(
    made: tuple[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, path = made
    monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))

    assert run("keys", "check", "--teams", str(path)) == 0
    assert "team research" in capsys.readouterr().out


def test_the_line_to_store_does_not_have_the_key(made: tuple[str, Path]) -> None:
    text, path = made
    key = split(text)

    assert key is not None
    assert key.secret not in path.read_text()
    (line,) = yaml.safe_load(path.read_text())["teams"]["research"]["keys"]
    assert line["note"] == "it's: mine"
    assert "expires" in line


def test_a_typo_is_told(made: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text, path = made
    monkeypatch.setattr("sys.stdin", io.StringIO(text[:-1] + ("a" if text[-1] != "a" else "b")))

    assert run("keys", "check", "--teams", str(path)) == 1
    assert "mistyped" in capsys.readouterr().err


def test_an_admin_key_comes_with_its_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "new", "--admin") == 0

    printed = capsys.readouterr().out
    key = split(printed.split()[8])
    setting = yaml.safe_load(printed.splitlines()[-1])
    assert key is not None
    assert KeyHash.parse(setting["admin_key_hash"]).matches(key.secret)


@pytest.mark.parametrize(
    "arguments", [["new"], ["new", "a", "--admin"], ["new", "a", "--expires", "soon"], ["new", "a", "--expires", "0d"]]
)
def test_a_wrong_word_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", *arguments) == 2
    assert "error:" in capsys.readouterr().err
