"""Reader of teams files, which reports each mistake with its line."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from serving.errors import SettingsError
from serving.settings.keys import hide_keys
from serving.settings.loading.yaml_file import read_yaml
from serving.settings.problems import from_validation
from serving.settings.teams import TeamsFile


def read_teams_file(path: Path) -> TeamsFile:
    """Read the teams in `path`; raises SettingsError with every mistake found, none of which shows a key."""
    layer = read_yaml(path)
    problems = [("teams_file" if field == "config" else field, message) for field, message in layer.problems]
    teams: TeamsFile | None = None
    # A file that could not be read has no values worth complaining of.
    if layer.values or not problems:
        try:
            teams = TeamsFile.model_validate(layer.values)
        except ValidationError as error:
            told = {field for field, _ in problems}
            problems += [problem for problem in from_validation(error, layer) if problem.field not in told]
    if problems or teams is None:
        raise SettingsError([(field, hide_keys(message)) for field, message in problems])
    return teams
