from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.errors import SettingsError
from serving.settings.keys import new_key
from serving.settings.loading.teams_file import read_teams_file

WriteTeams = Callable[..., Path]


def test_a_team_has_what_its_file_says(write_teams: WriteTeams, stored_key: Any) -> None:
    _, line = stored_key(expires="2027-02-19", note="notebooks")
    path = write_teams({"research": {"weight": 2, "models": ["demo"], "keys": [line], "priority": "high"}})

    team = read_teams_file(path).teams["research"]

    assert (team.weight, team.models, team.priority) == (2, ("demo",), "high")
    assert team.keys[0].note == "notebooks"


def test_a_team_without_a_line_of_its_own_has_the_defaults(write_teams: WriteTeams) -> None:
    path = write_teams(
        {"research": None, "sales": {"requests_per_minute": 5}}, defaults={"requests_per_minute": 60, "weight": 3}
    )

    teams = read_teams_file(path).teams

    assert teams["research"].requests_per_minute == 60
    assert (teams["sales"].requests_per_minute, teams["sales"].weight) == (5, 3)


def test_a_key_is_good_to_the_end_of_the_day_it_expires(write_teams: WriteTeams, stored_key: Any) -> None:
    _, line = stored_key(expires="2027-02-19")
    key = read_teams_file(write_teams({"a": {"keys": [line]}})).teams["a"].keys[0]

    assert key.usable(1803081599)  # 2027-02-19 23:59:59 UTC
    assert not key.usable(1803081600)


@pytest.mark.parametrize(
    ("team", "field", "told"),
    [
        ({"wieght": 2}, "teams.a.wieght", "not permitted"),
        ({"weight": 0}, "teams.a.weight", "at least 0.01"),
        ({"priority": "urgent"}, "teams.a.priority", "'high'"),
        ({"default_effort": "high", "highest_effort": "low"}, "teams.a.default_effort", "above highest_effort"),
        ({"keys": [{"id": "short", "hash": "x"}]}, "teams.a.keys.0.id", "10 letters and digits"),
        ({"keys": [{"id": "0123456789", "hash": "x"}]}, "teams.a.keys.0.hash", "blake2b:SALT:DIGEST"),
        ({"effort_under_load": {"low_above": 1.5}}, "teams.a.effort_under_load.low_above", "at most 1"),
        ({"max_context": 512, "max_output": 512}, "teams.a.max_output", "below max_context"),
        ("x", "teams.a", "should hold settings"),
    ],
)
def test_a_mistake_is_told_with_its_path(write_teams: WriteTeams, team: Any, field: str, told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_teams_file(write_teams({"a": team}))

    problems = dict(raised.value.problems)
    assert told in problems[field]
    assert "teams.yaml line" in problems[field]


def test_a_key_id_belongs_to_one_team(write_teams: WriteTeams, stored_key: Any) -> None:
    _, line = stored_key()

    with pytest.raises(SettingsError, match=r"teams\.b\.keys\.0\.id: is a key of a already"):
        read_teams_file(write_teams({"a": {"keys": [line]}, "b": {"keys": [line]}}))


def test_a_key_in_the_wrong_place_is_not_shown(write_teams: WriteTeams) -> None:
    key = new_key()

    with pytest.raises(SettingsError) as raised:
        read_teams_file(write_teams({"a": {"keys": [{"id": key.text, "hash": key.text, "key": key.text}]}}))

    assert len(raised.value.problems) == 3
    assert key.secret not in str(raised.value)


@pytest.mark.parametrize("text", ["", "teams:", "teams: {}", "[1]", "teams: [", "teams: {1: {}}", "teams: {a b: {}}"])
def test_a_file_without_teams_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "teams.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError):
        read_teams_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"teams_file: cannot read .*nowhere\.yaml: No such file"):
        read_teams_file(tmp_path / "nowhere.yaml")
