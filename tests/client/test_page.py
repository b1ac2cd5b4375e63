"""docs/client.md: its programs run as they stand, and it names every event, field and slash command."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import typer.main

from serving.cli import create_cli
from serving.client import ChatEvent

if TYPE_CHECKING:
    from tests.client.conftest import Server

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_programs_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for program in blocks("python"):
        exec(program.replace("http://127.0.0.1:8000/v1", server.url), names)  # our own page
    names["client"].close()
    out = capsys.readouterr().out
    assert out.startswith("[analysis]\nSomebody greets me.\n[final]\nHello there!\nstop ")
    assert out.endswith("\nHello there!\n")


def test_every_event_is_described() -> None:
    rows = {row.split("|")[1].strip(): row for row in PAGE.splitlines() if row.startswith("| `")}
    for event in get_args(ChatEvent):
        row = rows[f"`{event.__name__}`"]
        assert all(f"`{field.default if field.name == 'type' else field.name}`" in row for field in fields(event))


def test_the_flags_of_the_command_line_exist() -> None:
    command: Any = typer.main.get_command(create_cli())
    flags = {flag for parameter in command.commands["chat"].params for flag in parameter.opts}
    (shown,) = blocks("sh")
    assert set(re.findall(r"--[a-z-]+", shown)) <= flags
