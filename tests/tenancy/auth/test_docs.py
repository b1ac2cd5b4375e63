from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.models import ModelSettings
from serving.settings.oidc import OidcSettings
from serving.settings.tree import Settings
from tests.http_server import HARMONY, in_thread
from tests.oidc_provider import Provider
from tests.teams_files import WriteTeams

PAGE = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_of_settings_names_every_setting() -> None:
    values = yaml.safe_load(YAML)
    Settings(**values)
    assert set(values["oidc"]) == set(OidcSettings.model_fields)


def test_the_example_runs_with_a_token_of_a_provider(
    oidc_provider: Provider, write_teams: WriteTeams, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(YAML)
    values["oidc"]["issuer"] = oidc_provider.issuer
    values["teams_file"] = str(write_teams({"research": {}, "chatbots": {}}))
    engine = ScriptedEngine(Script((ScriptLine(completion=HARMONY),)), model="demo", max_model_len=4096)
    monkeypatch.setenv("ID_TOKEN", oidc_provider.token("ada"))
    names: dict[str, Any] = {"__name__": "page"}

    with in_thread(Settings(models={"demo": ModelSettings()}, **values), engine) as address:
        exec(compile(PYTHON.replace("http://127.0.0.1:8000", address), "<docs/identity.md>", "exec"), names)  # our page
        names["client"].close()

    assert names["reply"].choices[0].message.content == "Hello there!"
