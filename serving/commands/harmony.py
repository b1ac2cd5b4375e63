"""`serving harmony`: show how a completion is read."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.errors import SettingsError


def harmony_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A completion; - for standard input.")],
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A function that the request offers. Repeatable; without it, any name is a call."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line for each token.")] = False,
) -> None:
    """Show how a completion is read: each token with its channel or call, what it opens, and what is recovered from.

    FILE has what the model wrote after the prompt's `<|start|>assistant`: text with its special tokens spelled out, as
    in `<|channel|>final<|message|>Hi.<|return|>`, or token ids, as in [200005, 17196]. The server reads completions in
    the same way; serving_recoveries_total counts the kinds of recovery shown here, which docs/harmony.md explains.

    \b
    Examples:
      serving harmony completion.txt --tool get_weather
      echo '<|channel|>analysis<|message|>Hm.<|end|>' | serving harmony -
    """
    from serving.harmony.trace import read_tokens, trace  # the vocabulary takes a moment to load

    try:
        tokens = read_tokens(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError([("FILE", f"{file}: {error}")]) from error
    for step in trace(tokens, tool):
        if as_json:
            typer.echo(json.dumps(asdict(step), ensure_ascii=False))
            continue
        shown = json.dumps(step.text, ensure_ascii=False) if step.token >= 0 else ""
        token = f"{step.token:>6}" if step.token >= 0 else " " * 6
        typer.echo(f"{step.number:>5} {token} {shown:<24} {step.at:<20} {'; '.join(step.events)}".rstrip())
