"""`serving batch`: send a file of requests, and wait for their answers."""

from __future__ import annotations

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serving.commands.chat import INTERRUPTED, KEY_VARIABLE, key_in
from serving.errors import ClientError, SettingsError

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

_LOOK_EVERY_S = 1.0
_OVER = ("completed", "failed", "expired", "cancelled")


class EndpointName(StrEnum):
    """Values of --endpoint."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    COMPLETIONS = "/v1/completions"


def batch_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines with custom_id, method, url and body.")],
    url: Annotated[str, typer.Option(metavar="URL", help="Base URL of the server.")] = "http://127.0.0.1:8000/v1",
    endpoint: Annotated[
        EndpointName | None, typer.Option(help="What each line is for; the first line's url unless set.")
    ] = None,
    window: Annotated[str, typer.Option(metavar="TIME", help="Hours or days until it expires: 24h, 7d.")] = "24h",
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress, and write the results to files.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where answers go with --wait; FILE.output.jsonl unless set.")
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Environment variable that has the API key (never the key itself); {KEY_VARIABLE} unless set.",
        ),
    ] = None,
) -> None:
    """Send a file of requests, which the server answers in the idle places of its engines.

    Prints the batch's id. With --wait it shows the progress, and writes answers to FILE.output.jsonl and errors to
    FILE.errors.jsonl beside it; Ctrl-C leaves the batch at work. The exit status is 1 where a line has no answer.

    \b
    Examples:
      serving batch prompts.jsonl
      serving batch prompts.jsonl --wait --window 2h
    """
    try:
        from openai import APIError, OpenAI
    except ModuleNotFoundError as error:
        raise ClientError(f"{error}. `serving batch` needs it: pip install 'gpt-oss-serving[client]'") from error

    from serving_bench.target import authorization, parse_target

    base_url = parse_target(url, "server", "--url").url
    key = key_in(api_key_env, os.environ)
    authorization(key)  # says what is wrong with one that no header takes
    asked = endpoint or _endpoint_of(file)
    try:
        with OpenAI(base_url=base_url, api_key=key or "none") as client:
            batch = _begin(client, file, asked, window)
            typer.echo(batch.id)
            if not wait:
                return
            batch = _watch(client, batch)
            failed = _write(client, batch, output or file.with_name(f"{file.name}.output.jsonl"), file)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except APIError as error:
        raise ClientError(f"{base_url}: {error.message}") from error
    raise typer.Exit(1 if failed else 0)


def _endpoint_of(file: Path) -> EndpointName:
    """Endpoint that the first line of the file names; raises SettingsError."""
    try:
        with file.open(encoding="utf-8") as lines:
            first = next((line for line in lines if line.strip()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([("FILE", f"cannot be read: {error}")]) from error
    try:
        return EndpointName(json.loads(first)["url"])
    except (ValueError, KeyError, TypeError) as error:
        known = ", ".join(EndpointName)
        raise SettingsError([("FILE", f"its first line should have a url of {known}; or set --endpoint")]) from error


def _begin(client: OpenAI, file: Path, endpoint: EndpointName, window: str) -> Batch:
    with file.open("rb") as content:
        kept = client.files.create(file=content, purpose="batch")
    known: Literal["24h"] = window  # type: ignore[assignment]  # OpenAI's own; this server takes others
    return client.batches.create(input_file_id=kept.id, endpoint=endpoint.value, completion_window=known)


def _watch(client: OpenAI, batch: Batch) -> Batch:
    """Show the progress until the batch is over."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(batch.status, total=None)
        while True:
            counts = batch.request_counts
            if counts is not None and counts.total:
                progress.update(bar, completed=counts.completed + counts.failed, total=counts.total)
            progress.update(bar, description=batch.status)
            if batch.status in _OVER:
                return batch
            time.sleep(_LOOK_EVERY_S)
            batch = client.batches.retrieve(batch.id)


def _write(client: OpenAI, batch: Batch, output: Path, file: Path) -> bool:
    """Write the results, and say where they are; returns whether a line has no answer."""
    errors = file.with_name(f"{file.name}.errors.jsonl")
    for file_id, path, what in ((batch.output_file_id, output, "answers"), (batch.error_file_id, errors, "errors")):
        if file_id is not None:
            client.files.content(file_id).write_to_file(path)
            typer.echo(f"{what}: {path}", err=True)
    for mistake in (batch.errors.data or [] if batch.errors is not None else [])[:10]:
        typer.echo(f"line {mistake.line}: {mistake.message}" if mistake.line else str(mistake.message), err=True)
    return batch.status != "completed" or batch.error_file_id is not None
