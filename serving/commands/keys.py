"""`serving keys`: make a key, check one."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from serving.errors import SettingsError
from serving.settings import keys
from serving.tenancy.auth.team_directory import TeamDirectory

_SPAN = re.compile(r"(?P<count>[1-9][0-9]{0,4})(?P<unit>[hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def new_command(
    team: Annotated[str | None, typer.Argument(help="The team's name in the teams file.", show_default=False)] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How long the key is good: 12h, 90d or 52w. Unset: for ever.")
    ] = None,
    note: Annotated[str, typer.Option(help="Kept beside the hash, for people.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="The administrator's key, for /metrics and /admin.")] = False,
) -> None:
    """Make a key. It is shown this once; what is stored is a hash of it.

    \b
    Examples:
      serving keys new research --expires 90d --note "notebook server"
      serving keys new --admin
    """
    if admin == (team is not None):
        raise SettingsError([("TEAM", "name one team, or say --admin, not both" if admin else "is missing")])
    now = datetime.now(UTC)
    ends = None if expires is None else now + _span(expires)
    if admin and ends is not None:
        raise SettingsError([("--expires", "is for keys of teams; the admin key is replaced by setting another hash")])
    key = keys.new_key()
    stored = key.hashed(keys.new_salt())
    owner = "the administrator" if admin else f"team {team}"
    typer.echo(f"The key of {owner}, shown this once:\n\n  {key.text}\n")
    if admin:
        typer.echo(f"Its hash goes into the settings file, or into SERVING_ADMIN_KEY_HASH:\n\nadmin_key_hash: {stored}")
        return
    line = {"id": key.id, "hash": str(stored), "created": now.date().isoformat()}
    if ends is not None:
        line["expires"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    if note:
        line["note"] = note
    # JSON is YAML, and quotes what must be.
    typer.echo(f"This line goes under `keys:` of the team in the teams file:\n\n      - {json.dumps(line)}")


def check_command(
    teams: Annotated[
        Path | None, typer.Option("--teams", metavar="FILE", help="A teams file: also say whose key it is.")
    ] = None,
) -> None:
    """Say whether a key was typed right, and whose it is. The key is read from standard input.

    \b
    Example:
      serving keys check --teams teams.yaml < key.txt
    """
    asked = typer.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    text = asked.strip()
    key = keys.split(text)
    if key is None or keys.is_mistyped(text):
        typer.echo("mistyped: this is no key as it was printed", err=True)
        raise typer.Exit(1)
    if teams is None:
        typer.echo(f"well-formed; its id is {key.id}")
        return
    found = TeamDirectory(teams, clock=lambda: datetime.now(UTC).timestamp()).identify(text)
    if found is None:
        typer.echo(
            f"not accepted: key {key.id} is not in {teams}, has expired, is revoked, or has another hash", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"accepted: key {key.id} of team {found.team}")


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise SettingsError([("--expires", f"should be a count and a unit, such as 12h, 90d or 52w; got {text!r}")])
    return int(found["count"]) * _UNITS[found["unit"]]
