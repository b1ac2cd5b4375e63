"""`serving config`: print the settings or their schema."""

from __future__ import annotations

import json
import os

import typer
import yaml

from serving.commands.options import ConfigOption
from serving.settings.loading.load import load
from serving.settings.loading.sources import read_sources
from serving.settings.tree import Settings


def schema_command() -> None:
    """Print the settings file's JSON schema: every setting with its type, default and meaning.

    \b
    Editors check and complete a settings file that begins with
      # yaml-language-server: $schema=serving.schema.json
    after `serving config schema > serving.schema.json`.
    """
    typer.echo(json.dumps(settings_schema(), indent=2))


def settings_schema() -> dict[str, object]:
    """JSON schema (draft 2020-12) of a settings file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def show_command(config: ConfigOption = None) -> None:
    """Print the settings in force, defaults included, as a settings file."""
    loaded = load(read_sources(Settings, config, {}, os.environ))
    typer.echo(to_yaml(loaded.settings), nl=False)


def to_yaml(settings: Settings) -> str:
    """Text of a settings file that loads as `settings`."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
