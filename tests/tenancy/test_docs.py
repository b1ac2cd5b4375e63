from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from serving.settings.loading.teams_file import read_teams_file
from serving.settings.teams import Team
from serving.settings.tree import Settings

DOCS = Path(__file__).parents[2] / "docs"
TEAMS = (DOCS / "teams.md").read_text()


def yaml_of(name: str) -> str:
    found = re.search(rf"```yaml\n(# {re.escape(name)}\n.*?)```", TEAMS, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_a_teams_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "teams.yaml"
    path.write_text(yaml_of("teams.yaml"))

    teams = read_teams_file(path).teams

    assert teams["research"].requests_per_minute == 1200
    assert teams["batch"].requests_per_minute == 600


def test_the_example_of_settings_is_one() -> None:
    Settings(**yaml.safe_load(yaml_of("serving.yaml")))


@pytest.mark.parametrize("field", Team.model_fields)
def test_every_field_of_a_team_is_in_the_example(field: str) -> None:
    assert re.search(rf"^ +{field}:", yaml_of("teams.yaml"), re.MULTILINE), field


@pytest.mark.parametrize("setting", ["max_header_bytes", "max_messages", "longest_body_s", "trusted_proxies"])
def test_what_the_security_page_names_can_be_set(setting: str) -> None:
    assert f"http.{setting}" in (DOCS / "security.md").read_text()
    assert setting in Settings().http.model_dump()
