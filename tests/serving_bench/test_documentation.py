"""docs/benchmarking.md says what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.gpu.__main__ import create_parser
from serving.cli import create_cli
from serving_bench.outcome import BAD_CHUNK, BROKEN_STREAM, ERROR_IN_STREAM, NOT_SENT, REFUSED, TIMEOUT
from serving_bench.report import SCHEMA, Report, Run

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarking.md").read_text()


@pytest.fixture
def flags() -> set[str]:
    command: Any = typer.main.get_command(create_cli())
    return {
        flag for parameter in command.commands["bench"].params for flag in parameter.opts + parameter.secondary_opts
    }


def test_every_flag_it_names_is_one(flags: set[str]) -> None:
    of_bench = re.sub(r'ARGS="[^"]*"', "", PAGE)  # what stands there is a flag of benchmarks.compare
    general, on_gpus = of_bench.split("## make bench-gpu")
    assert named_in(general) - flags == set()
    assert named_in(on_gpus) - set(create_parser()._option_string_actions) == set()


def named_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}


def test_every_command_it_shows_is_understood() -> None:
    command: Any = typer.main.get_command(create_cli())
    bench = command.commands["bench"]
    shown = [line for line in PAGE.splitlines() if line.startswith("serving bench http")]
    assert len(shown) == 5
    for line in shown:
        assert bench.make_context("bench", shlex.split(line)[2:]).params["url"].startswith("http://")


def test_every_part_of_the_report_is_named() -> None:
    parts = (Report.model_fields.keys() | Run.model_fields.keys()) - {
        *("schema_", "version", "created", "interrupted", "target", "level", "rounds", "elapsed_s"),
        *("requests_per_s", "tokens_per_s", "tokens_per_s_by_channel"),
    }
    assert {part for part in parts if f"`{part}`" not in PAGE} == set()
    assert SCHEMA in PAGE


def test_every_kind_of_error_is_named() -> None:
    for kind in (BAD_CHUNK, BROKEN_STREAM, ERROR_IN_STREAM, NOT_SENT, REFUSED, TIMEOUT):
        assert f"`{kind}`" in PAGE
