"""`serving usage`: tokens of teams by day."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serving.commands.options import ConfigOption
from serving.errors import SettingsError
from serving.settings.loading.load import load
from serving.settings.loading.sources import read_sources
from serving.settings.tree import Settings
from serving.tenancy.usage.base import COUNTS, UsageRow, UsageStore
from serving.tenancy.usage.from_settings import make_usage_store
from serving.tenancy.usage.summary import GROUPINGS, Grouping, groupings_in, summarize


class Format(StrEnum):
    """Values of --format."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def usage_command(
    config: ConfigOption = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day; 30 days in all unset.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day; today (UTC) unset.")] = None,
    by: Annotated[str, typer.Option(metavar="NAMES", help="Some of day, team, model, effort.")] = "day,team",
    team: Annotated[str | None, typer.Option(help="This team alone.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
) -> None:
    """Print tokens by day and team, from the SQLite file or the Redis that the settings name.

    The server need not run. Days are UTC's.

    \b
    Examples:
      serving usage --config serving.yaml
      serving usage --from 2026-11-01 --by team,model --format csv
    """
    settings = load(read_sources(Settings, config, {}, os.environ)).settings
    if settings.usage.backend == "memory":
        message = "is memory, which only the server can read: ask GET /admin/usage, or keep usage in sqlite or redis"
        raise SettingsError([("usage.backend", message)])
    end = _day(last, "--to", datetime.now(UTC).date())
    start = _day(first, "--from", end - timedelta(29))
    if start > end:
        raise SettingsError([("--from", f"{start} is after {end}")])
    grouping = _grouping(by)
    rows = asyncio.run(_read(make_usage_store(settings), start.isoformat(), end.isoformat()))
    summary = summarize(rows, grouping, team)
    match output:
        case Format.JSON:
            typer.echo(json.dumps(summary, indent=2))
        case Format.CSV:
            typer.echo(_csv([*grouping, *COUNTS], summary), nl=False)
        case Format.TABLE:
            _print_table(grouping, summary)


async def _read(store: UsageStore, first: str, last: str) -> list[UsageRow]:
    try:
        return await store.read(first, last)
    finally:
        await store.close()


def _day(text: str | None, flag: str, default: date) -> date:
    if text is None:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError([(flag, f"should be a day such as 2026-11-21; got {text!r}")]) from error


def _grouping(text: str) -> list[Grouping]:
    known = groupings_in(text)
    if known is None:
        raise SettingsError([("--by", f"should be some of {', '.join(GROUPINGS)}, each once; got {text!r}")])
    return known


def _csv(columns: list[str], summary: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(summary)
    return text.getvalue()


def _print_table(grouping: list[Grouping], summary: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in grouping:
        table.add_column(name)
    for count in COUNTS:
        table.add_column(count.removesuffix("_tokens"), justify="right")
    for row in summary:
        table.add_row(*(str(row[name]) for name in grouping), *(f"{row[name]:,}" for name in COUNTS))
    if not summary:
        typer.echo("nothing was used on these days")
        return
    # Wider than most terminals: a line that wraps can be read, a figure that is cut off is wrong.
    Console(highlight=False, width=240).print(table)
